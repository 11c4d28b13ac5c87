//! What kind of address this is: the verdict that decides whether it may be dialled.
//!
//! The classes follow the IANA special-purpose registries (RFC 6890 and its updates). IPv6 forms that
//! carry an IPv4 address are judged by what they carry, so that no spelling of `127.0.0.1` or of a
//! cloud's metadata service is a public address. Everything that is not known to be public is not.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The class of an address. Its word is log text and metric label at once.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Class {
    /// Globally reachable unicast.
    Public,
    /// "This network", `0.0.0.0/8` and `::` (RFC 1122, RFC 4291). Linux dials itself.
    Unspecified,
    /// `127.0.0.0/8` and `::1`.
    Loopback,
    /// `10/8`, `172.16/12`, `192.168/16` (RFC 1918).
    Private,
    /// `100.64.0.0/10`: carrier-grade NAT (RFC 6598).
    Shared,
    /// `169.254.0.0/16` and `fe80::/10` (RFC 3927, RFC 4291).
    LinkLocal,
    /// A cloud's instance metadata or host agent, wherever the vendor put it.
    Metadata,
    /// `192.0.0.0/24` and `2001::/23`: IETF protocol assignments (RFC 6890).
    Protocol,
    /// `192.0.2.0/24`, `198.51.100.0/24`, `203.0.113.0/24`, `2001:db8::/32`, `3fff::/20`.
    Documentation,
    /// `198.18.0.0/15`: benchmarks (RFC 2544).
    Benchmark,
    /// `224.0.0.0/4` and `ff00::/8`.
    Multicast,
    /// `255.255.255.255`.
    Broadcast,
    /// `240.0.0.0/4` and all of IPv6 outside `2000::/3` that has no other class.
    Reserved,
    /// `fc00::/7` (RFC 4193).
    UniqueLocal,
    /// `fec0::/10`, deprecated (RFC 3879) and still routed by some.
    SiteLocal,
    /// `100::/64` (RFC 6666).
    Discard,
    /// 6to4, Teredo, ISATAP, IPv4-compatible and locally translated addresses: the far end of the
    /// tunnel is chosen by whoever wrote the address.
    Tunnel,
}

impl Class {
    /// The word for logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Public => "public",
            Self::Unspecified => "unspecified",
            Self::Loopback => "loopback",
            Self::Private => "private",
            Self::Shared => "shared",
            Self::LinkLocal => "link-local",
            Self::Metadata => "metadata",
            Self::Protocol => "protocol",
            Self::Documentation => "documentation",
            Self::Benchmark => "benchmark",
            Self::Multicast => "multicast",
            Self::Broadcast => "broadcast",
            Self::Reserved => "reserved",
            Self::UniqueLocal => "unique-local",
            Self::SiteLocal => "site-local",
            Self::Discard => "discard",
            Self::Tunnel => "tunnel",
        }
    }

    /// True for addresses that any request may be sent to.
    pub fn is_public(self) -> bool {
        self == Self::Public
    }

    /// True for addresses that the owner may except by name, port and address. Metadata services and
    /// link-local neighbours are never among them: they answer whoever asks, with credentials.
    pub fn may_be_excepted(self) -> bool {
        matches!(self, Self::Public | Self::Loopback | Self::Private | Self::Shared | Self::UniqueLocal)
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Classifies any address.
pub fn classify(addr: IpAddr) -> Class {
    match addr {
        IpAddr::V4(addr) => classify_v4(addr),
        IpAddr::V6(addr) => classify_v6(addr),
    }
}

/// Services outside the link-local range that a cloud offers to whoever can reach them.
const METADATA_V4: [Ipv4Addr; 4] = [
    Ipv4Addr::new(169, 254, 169, 254), // AWS, Google, Azure, DigitalOcean, OpenStack
    Ipv4Addr::new(168, 63, 129, 16),   // Azure's host agent, in public address space
    Ipv4Addr::new(100, 100, 100, 200), // Alibaba
    Ipv4Addr::new(192, 0, 0, 192),     // Oracle
];

fn classify_v4(addr: Ipv4Addr) -> Class {
    if METADATA_V4.contains(&addr) {
        return Class::Metadata;
    }
    match addr.octets() {
        [0, ..] => Class::Unspecified,
        [127, ..] => Class::Loopback,
        [10, ..] | [172, 16..=31, ..] | [192, 168, ..] => Class::Private,
        [100, 64..=127, ..] => Class::Shared,
        [169, 254, ..] => Class::LinkLocal,
        [192, 0, 0, _] => Class::Protocol,
        [192, 0, 2, _] | [198, 51, 100, _] | [203, 0, 113, _] => Class::Documentation,
        [198, 18 | 19, ..] => Class::Benchmark,
        // The anycast relay of 6to4, deprecated by RFC 7526.
        [192, 88, 99, _] => Class::Tunnel,
        [255, 255, 255, 255] => Class::Broadcast,
        [224..=239, ..] => Class::Multicast,
        [240..=255, ..] => Class::Reserved,
        _ => Class::Public,
    }
}

fn classify_v6(addr: Ipv6Addr) -> Class {
    if let Some(carried) = Carried::of(addr) {
        return carried.classify();
    }
    match addr.segments() {
        [0, 0, 0, 0, 0, 0, 0, 0] => Class::Unspecified,
        [0, 0, 0, 0, 0, 0, 0, 1] => Class::Loopback,
        [0x100, 0, 0, 0, ..] => Class::Discard,
        // AWS (fd00:ec2::254 and its siblings), Google, Scaleway.
        [0xfd00, 0xec2, ..] | [0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254] | [0xfd00, 0x42, 0, 0, 0, 0, 0, 0x42] => {
            Class::Metadata
        }
        [0xfc00..=0xfdff, ..] => Class::UniqueLocal,
        [0xfe80..=0xfebf, ..] => Class::LinkLocal,
        [0xfec0..=0xfeff, ..] => Class::SiteLocal,
        [0xff00..=0xffff, ..] => Class::Multicast,
        [0x2001, 0xdb8, ..] | [0x3fff, 0..=0xfff, ..] => Class::Documentation,
        [0x2001, 0..=0x1ff, ..] => Class::Protocol,
        [0x2000..=0x3fff, ..] => Class::Public,
        _ => Class::Reserved,
    }
}

/// An IPv6 address that stands for an IPv4 one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Carried {
    /// The network stack or a translator of the operator reaches exactly this IPv4 address:
    /// `::ffff:0:0/96` (RFC 4291) and the well-known NAT64 prefix `64:ff9b::/96` (RFC 6052).
    Same(Ipv4Addr),
    /// A tunnel whose end this IPv4 address is.
    Tunnel(Ipv4Addr),
    /// A translator of unknown layout: `64:ff9b:1::/48` (RFC 8215).
    Unknown,
}

impl Carried {
    fn of(addr: Ipv6Addr) -> Option<Self> {
        let last =
            |segments: [u16; 2]| Ipv4Addr::from((u32::from(segments[0]) << 16) | u32::from(segments[1]));
        match addr.segments() {
            // `::` and `::1` are themselves, not IPv4-compatible addresses.
            [0, 0, 0, 0, 0, 0, 0, 0 | 1] => None,
            [0, 0, 0, 0, 0, 0xffff, a, b] | [0x64, 0xff9b, 0, 0, 0, 0, a, b] => {
                Some(Self::Same(last([a, b])))
            }
            [0x64, 0xff9b, 1, ..] => Some(Self::Unknown),
            // IPv4-compatible (RFC 4291, deprecated) and IPv4-translated (RFC 2765).
            [0, 0, 0, 0, 0, 0, a, b] | [0, 0, 0, 0, 0xffff, 0, a, b] => Some(Self::Tunnel(last([a, b]))),
            // 6to4 (RFC 3056).
            [0x2002, a, b, ..] => Some(Self::Tunnel(last([a, b]))),
            // Teredo (RFC 4380): the client's address is stored inverted.
            [0x2001, 0, _, _, _, _, a, b] => Some(Self::Tunnel(last([!a, !b]))),
            // ISATAP (RFC 5214): the interface identifier, under any prefix.
            [_, _, _, _, 0 | 0x200, 0x5efe, a, b] => Some(Self::Tunnel(last([a, b]))),
            _ => None,
        }
    }

    /// What is carried decides; a tunnel is never public.
    fn classify(self) -> Class {
        match self {
            Self::Same(addr) => classify_v4(addr),
            Self::Tunnel(addr) => match classify_v4(addr) {
                Class::Public => Class::Tunnel,
                other => other,
            },
            Self::Unknown => Class::Tunnel,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn class(text: &str) -> Class {
        classify(text.parse().expect(text))
    }

    #[test]
    fn s01_s07_special_ipv4_is_not_public() {
        for (text, expected) in [
            ("0.0.0.0", Class::Unspecified),
            ("0.1.2.3", Class::Unspecified),
            ("10.0.0.1", Class::Private),
            ("10.255.255.255", Class::Private),
            ("100.64.0.1", Class::Shared),
            ("100.127.255.255", Class::Shared),
            ("100.100.100.200", Class::Metadata),
            ("127.0.0.1", Class::Loopback),
            ("127.255.255.254", Class::Loopback),
            ("168.63.129.16", Class::Metadata),
            ("169.254.0.1", Class::LinkLocal),
            ("169.254.169.254", Class::Metadata),
            ("169.254.170.2", Class::LinkLocal),
            ("172.16.0.1", Class::Private),
            ("172.31.255.255", Class::Private),
            ("192.0.0.1", Class::Protocol),
            ("192.0.0.192", Class::Metadata),
            ("192.0.2.1", Class::Documentation),
            ("192.88.99.1", Class::Tunnel),
            ("192.168.255.255", Class::Private),
            ("198.18.0.1", Class::Benchmark),
            ("198.19.255.255", Class::Benchmark),
            ("198.51.100.1", Class::Documentation),
            ("203.0.113.255", Class::Documentation),
            ("224.0.0.1", Class::Multicast),
            ("239.255.255.255", Class::Multicast),
            ("240.0.0.1", Class::Reserved),
            ("255.255.255.254", Class::Reserved),
            ("255.255.255.255", Class::Broadcast),
        ] {
            assert_eq!(class(text), expected, "{text}");
        }
    }

    #[test]
    fn neighbours_of_special_ranges_are_public() {
        for text in [
            "1.1.1.1",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "126.255.255.255",
            "128.0.0.0",
            "169.253.255.255",
            "169.255.0.0",
            "172.15.255.255",
            "172.32.0.0",
            "192.0.1.0",
            "192.0.3.0",
            "192.88.98.255",
            "192.167.255.255",
            "192.169.0.0",
            "198.17.255.255",
            "198.20.0.0",
            "223.255.255.255",
            "2606:4700::1111",
            "2001:4860:4860::8888",
            "2001:200::1",
            "2003::1",
            "3ffe:ffff::1",
            "2620:4f:8000::1",
        ] {
            assert_eq!(class(text), Class::Public, "{text}");
        }
    }

    #[test]
    fn s04_s05_s06_s07_special_ipv6_is_not_public() {
        for (text, expected) in [
            ("::", Class::Unspecified),
            ("::1", Class::Loopback),
            ("::ffff:169.254.169.254", Class::Metadata),
            ("::ffff:127.0.0.1", Class::Loopback),
            ("::127.0.0.1", Class::Loopback),
            ("::8.8.8.8", Class::Tunnel),
            ("::ffff:0:10.0.0.1", Class::Private),
            ("64:ff9b::a9fe:a9fe", Class::Metadata),
            ("64:ff9b::10.0.0.1", Class::Private),
            ("64:ff9b:1::a9fe:a9fe", Class::Tunnel),
            ("64:ff9b:1:ffff::8.8.8.8", Class::Tunnel),
            ("2002:7f00:1::", Class::Loopback),
            ("2002:808:808::1", Class::Tunnel),
            ("2001:0:4136:e378:8000:63bf:80ff:fffe", Class::Loopback),
            ("2001::1", Class::Reserved),
            ("2001:0:4136:e378:8000:63bf:f7f7:f7f7", Class::Tunnel),
            ("fe80::5efe:10.0.0.1", Class::Private),
            ("2606:4700::5efe:10.0.0.1", Class::Private),
            ("2606:4700::200:5efe:10.0.0.1", Class::Private),
            ("2606:4700::5efe:8.8.8.8", Class::Tunnel),
            ("100::1", Class::Discard),
            ("fd00:ec2::254", Class::Metadata),
            ("fd20:ce::254", Class::Metadata),
            ("fc00::1", Class::UniqueLocal),
            ("fd12:3456::1", Class::UniqueLocal),
            ("fe80::1", Class::LinkLocal),
            ("febf::1", Class::LinkLocal),
            ("fec0::1", Class::SiteLocal),
            ("ff02::1", Class::Multicast),
            ("2001:db8::1", Class::Documentation),
            ("3fff::1", Class::Documentation),
            ("2001:2::1", Class::Protocol),
            ("2001:20::1", Class::Protocol),
            ("5f00::1", Class::Reserved),
            ("4000::1", Class::Reserved),
            ("64:ff9a::1", Class::Reserved),
        ] {
            assert_eq!(class(text), expected, "{text}");
        }
    }

    #[test]
    fn s12_metadata_and_neighbours_are_beyond_exception() {
        for text in
            ["169.254.169.254", "::ffff:169.254.169.254", "fe80::1", "fd00:ec2::254", "0.0.0.0", "224.0.0.1"]
        {
            assert!(!class(text).may_be_excepted(), "{text}");
        }
        for text in ["127.0.0.1", "::1", "10.1.2.3", "fd12::1", "93.184.216.34"] {
            assert!(class(text).may_be_excepted(), "{text}");
        }
    }

    /// Every way to write an IPv4 address inside an IPv6 one.
    fn carriers(addr: Ipv4Addr) -> Vec<Ipv6Addr> {
        let bits = u128::from(u32::from(addr));
        let inverted = u128::from(!u32::from(addr));
        vec![
            Ipv6Addr::from(0xffff_0000_0000 | bits),
            Ipv6Addr::from((0x64_ff9b_u128 << 96) | bits),
            Ipv6Addr::from(bits),
            Ipv6Addr::from((0xffff_u128 << 48) | bits),
            Ipv6Addr::from((0x2002_u128 << 112) | (bits << 80)),
            Ipv6Addr::from((0x2001_u128 << 112) | inverted),
            Ipv6Addr::from((0x2606_4700_u128 << 96) | (0x5efe_u128 << 32) | bits),
            Ipv6Addr::from((0xfe80_u128 << 112) | (0x200_5efe_u128 << 32) | bits),
        ]
    }

    proptest! {
        #[test]
        fn every_address_has_a_class(bits in any::<u128>(), v4 in any::<u32>()) {
            let _ = classify(IpAddr::V6(Ipv6Addr::from(bits)));
            let _ = classify(IpAddr::V4(Ipv4Addr::from(v4)));
        }

        #[test]
        fn no_disguise_makes_an_address_public(
            v4 in prop_oneof![any::<u32>(), (0u32..=0xff_ffff).prop_map(|low| 0x7f00_0000 | low)]
        ) {
            let plain = Ipv4Addr::from(v4);
            // `::` and `::1` are the two addresses that are themselves.
            prop_assume!(v4 > 1);
            for carrier in carriers(plain) {
                let disguised = classify(IpAddr::V6(carrier));
                match classify(IpAddr::V4(plain)) {
                    Class::Public => prop_assert!(matches!(disguised, Class::Public | Class::Tunnel)),
                    class => prop_assert_eq!(disguised, class, "{} as {}", plain, carrier),
                }
            }
        }
    }
}

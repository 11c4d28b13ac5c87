//! Keys in memory: each in a page of its own, locked, left out of core dumps and of child processes,
//! and wiped.
//!
//! A locked page is never written to swap (mlock(2)); MADV_DONTDUMP keeps it out of a core dump and
//! MADV_DONTFORK out of a child. Where the system refuses to lock (RLIMIT_MEMLOCK), the key is kept all
//! the same: [`can_lock`] says so, and `ironclaw doctor` tells. Hibernation writes locked pages too.

use memmap2::MmapMut;
use zeroize::Zeroize as _;

use crate::crypto::CryptoError;

/// A 256-bit key. Moving it moves a pointer and leaves no copy behind.
pub(crate) struct Key(MmapMut);

impl Key {
    /// The length of every key in bytes.
    pub(crate) const LEN: usize = 32;

    /// A key from the operating system's generator.
    pub(crate) fn random() -> Result<Self, CryptoError> {
        Self::filled_by(|bytes| aws_lc_rs::rand::fill(bytes).map_err(|_| CryptoError))
    }

    /// A key that `fill` writes in its final place.
    ///
    /// # Panics
    /// When the system has not one page of memory left, as every allocation does.
    pub(crate) fn filled_by<E>(fill: impl FnOnce(&mut [u8; Self::LEN]) -> Result<(), E>) -> Result<Self, E> {
        let mut page = MmapMut::map_anon(Self::LEN).expect("out of memory");
        let _ = guard(&page);
        if let Some(bytes) = page.first_chunk_mut() {
            fill(bytes)?;
        }
        Ok(Self(page))
    }

    /// The key whose bytes these are; `None` when there are not 32 of them.
    pub(crate) fn from_slice(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; Self::LEN] = bytes.try_into().ok()?;
        Self::filled_by(|key| {
            key.copy_from_slice(bytes);
            Ok::<(), ()>(())
        })
        .ok()
    }

    /// The bytes.
    pub(crate) fn as_bytes(&self) -> &[u8; Self::LEN] {
        self.0.first_chunk().expect("the page is longer than a key")
    }
}

impl Drop for Key {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

/// Whether this process may lock the pages of its keys. Asks the system by locking one.
pub fn can_lock() -> bool {
    MmapMut::map_anon(Key::LEN).is_ok_and(|page| guard(&page).is_ok())
}

/// Keeps a page out of swap, dumps and children, as far as the system lets it.
fn guard(page: &MmapMut) -> std::io::Result<()> {
    #[cfg(target_os = "linux")]
    for advice in [memmap2::Advice::DontDump, memmap2::Advice::DontFork] {
        page.advise(advice)?;
    }
    #[cfg(unix)]
    page.lock()?;
    #[cfg(not(unix))]
    let _ = page;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_have_one_length_and_are_not_alike() {
        assert!(Key::from_slice(&[1; 31]).is_none() && Key::from_slice(&[1; 33]).is_none());
        assert_eq!(Key::from_slice(&[7; 32]).map(|key| *key.as_bytes()), Some([7; 32]));
        assert_ne!(Key::random().unwrap().as_bytes(), Key::random().unwrap().as_bytes());
    }

    /// The kernel's own word about the page of a key: `lo` locked, `dd` not dumped, `dc` not for children.
    #[cfg(target_os = "linux")]
    #[test]
    fn k12_the_page_of_a_key_is_locked_and_left_out_of_dumps_and_children() {
        let key = Key::random().unwrap();
        let address = key.as_bytes().as_ptr() as usize;
        let maps = std::fs::read_to_string("/proc/self/smaps").unwrap();
        let mut inside = false;
        let flags = maps.lines().find_map(|line| {
            if let Some((from, to)) = line.split(' ').next().and_then(|range| range.split_once('-')) {
                let bound = |text| usize::from_str_radix(text, 16);
                if let (Ok(from), Ok(to)) = (bound(from), bound(to)) {
                    inside = (from..to).contains(&address);
                }
            }
            line.strip_prefix("VmFlags:").filter(|_| inside)
        });
        let flags: Vec<&str> = flags.unwrap().split_whitespace().collect();
        assert!(["lo", "dd", "dc"].iter().all(|flag| flags.contains(flag)), "{flags:?}");
        assert!(can_lock());
    }

    /// A trait that a type has in two ways if it also has the one asked about, so that naming the
    /// function is ambiguous and does not compile: the absence of a trait as a fact of this build.
    macro_rules! lacks {
        ($type:ty: $($lacked:path),*) => {$(
            const _: fn() = || {
                trait Either<A> { fn one() {} }
                impl<T: ?Sized> Either<()> for T {}
                struct Second;
                impl<T: ?Sized + $lacked> Either<Second> for T {}
                let _ = <$type as Either<_>>::one;
            };
        )*};
    }

    lacks!(Key: std::fmt::Debug, std::fmt::Display, Clone, Copy, PartialEq, AsRef<[u8]>, Into<Vec<u8>>);
    lacks!(crate::Plain: std::fmt::Debug, std::fmt::Display, Clone, PartialEq, AsRef<[u8]>, std::ops::Deref, Into<Vec<u8>>, Into<String>);
    lacks!(crate::Unlock: std::fmt::Debug, std::fmt::Display, Clone, PartialEq);
    lacks!(crate::Leases: std::fmt::Debug, std::fmt::Display, Clone, PartialEq);
    lacks!(crate::Armed<Vec<u8>>: std::fmt::Debug, std::fmt::Display, Clone, PartialEq, std::ops::Deref);
    lacks!(crate::Vault: std::fmt::Debug, std::fmt::Display, Clone, PartialEq);
}

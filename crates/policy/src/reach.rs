//! Where programs behind the proxy may go: rules, as the command line and rules files write them.
//!
//! A rule on the command line is `[METHOD,..:]HOST[:PORT][/PATH]`; `http://` before the host gives up TLS. A rules file
//! is TOML with one `[[allow]]` for each rule. Both are read in two stages: what was written, then what it means.
//! What no rule names is refused, and so is a set in which one rule does not parse: a typing error never widens anything.

use std::fmt;

use http::Method;
use safety::Untrusted;
use types::limits::Bytes;
use types::{
    Endpoint, Host, HostName, PathPrefix, Port, Refusal, Rule, Scheme, SecretName, Source, Target, TokensInto,
};

use crate::manifest::HostRule;
use crate::rules;
pub(crate) use demands::Demands;
use written::{Part, Written, WrittenRules};

mod demands;
mod written;

/// The largest rules file. A rule takes about 100 bytes.
pub const MAX_RULES_FILE: Bytes = Bytes::kib(256);

/// The most rules of one set. Each request is compared with each of them.
pub const MAX_RULES: usize = 1024;

const METHODS: [Method; 7] =
    [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::PATCH, Method::DELETE, Method::OPTIONS];

/// A set of rules. The empty one allows nothing.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Reach(Vec<ReachRule>);

/// One place that may be reached.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ReachRule {
    /// With or without TLS.
    pub scheme: Scheme,
    /// The host.
    pub host: HostPattern,
    /// The port.
    pub port: Port,
    /// The methods; all the usual ones where none was written.
    pub methods: Vec<Method>,
    /// The paths.
    pub path: PathPrefix,
    /// The secret that every request has to carry, by name: a key of the program's own does not pass.
    pub require: Option<SecretName>,
    /// Each request waits until the owner has approved it.
    pub ask: bool,
    /// A body has to be a single JSON object: no batch of calls (JSON-RPC 2.0, 6), and nothing that could be one.
    pub single: bool,
    /// What the tokens in each answer become: none of them reaches the program.
    pub capture: Option<TokensInto>,
}

/// One host, or all names one label below a name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum HostPattern {
    /// This one.
    Exact(Host),
    /// `*.NAME`: one label before the name, as in a certificate (RFC 6125, 6.4.3); not the name itself. More labels
    /// would be more room to write into a name that someone else's name server reads.
    Under(HostName),
}

/// Why rules were refused.
#[derive(Debug, thiserror::Error)]
pub enum ReachError {
    /// Larger than [`MAX_RULES_FILE`] or not UTF-8.
    #[error("the rules are larger than {MAX_RULES_FILE} or not UTF-8")]
    Size,
    /// More than [`MAX_RULES`].
    #[error("there are more than {MAX_RULES} rules")]
    TooMany,
    /// Not the TOML of a rules file. The parser's message quotes the file, so it is foreign.
    #[error("the rules are not valid TOML for rules")]
    Toml(Untrusted<String>),
    /// Two rules for one place that ask for different things (attack C18).
    #[error("two rules are for {0} and ask for different things; make them one")]
    Tie(String),
    /// A part of a rule that does not mean what it must.
    #[error("rule {number}: {part}: {why}")]
    Rule {
        /// Which, from 1.
        number: usize,
        /// Which part.
        part: &'static str,
        /// What is wrong with it.
        why: String,
    },
}

impl Reach {
    /// Reads a rules file.
    pub fn parse(bytes: &[u8]) -> Result<Self, ReachError> {
        let text = std::str::from_utf8(bytes).map_err(|_| ReachError::Size)?;
        if text.len() > MAX_RULES_FILE.as_usize() {
            return Err(ReachError::Size);
        }
        let written: WrittenRules = toml::from_str(text)
            .map_err(|error| ReachError::Toml(Untrusted::new(Source::File, error.to_string())))?;
        Self::mean(written.allow.into_iter().map(Ok))
    }

    /// Reads rules of a command line.
    pub fn of_words<'a>(words: impl IntoIterator<Item = &'a str>) -> Result<Self, ReachError> {
        Self::mean(words.into_iter().map(Written::of_word))
    }

    /// Both together.
    pub fn and(mut self, other: Self) -> Result<Self, ReachError> {
        self.0.extend(other.0);
        Self::of_rules(self.0)
    }

    /// The rules.
    pub fn rules(&self) -> &[ReachRule] {
        &self.0
    }

    fn mean(written: impl Iterator<Item = Result<Written, Part>>) -> Result<Self, ReachError> {
        let rule = |(index, written): (usize, Result<Written, Part>)| {
            let at = |(part, why)| ReachError::Rule { number: index + 1, part, why };
            written.and_then(Written::mean).map_err(at)
        };
        let rules = written.enumerate().take(MAX_RULES + 1).map(rule).collect::<Result<Vec<_>, _>>()?;
        Self::of_rules(rules)
    }

    fn of_rules(rules: Vec<ReachRule>) -> Result<Self, ReachError> {
        if rules.len() > MAX_RULES {
            return Err(ReachError::TooMany);
        }
        let ties = |(at, rule): (usize, &ReachRule)| rules[..at].iter().any(|other| rule.ties_with(other));
        match rules.iter().enumerate().find(|rule| ties(*rule)) {
            Some((_, rule)) => Err(ReachError::Tie(rule.to_string())),
            None => Ok(Self(rules)),
        }
    }

    /// True when a rule names the endpoint under that scheme, whatever the method and path.
    pub(crate) fn names(&self, scheme: Scheme, endpoint: &Endpoint) -> bool {
        self.0.iter().any(|rule| rule.scheme == scheme && rule.names(endpoint))
    }

    /// True when a rule for this very host names the endpoint, not only one for many.
    pub(crate) fn names_alone(&self, scheme: Scheme, endpoint: &Endpoint) -> bool {
        let alone = |rule: &&ReachRule| matches!(rule.host, HostPattern::Exact(_));
        self.0.iter().filter(alone).any(|rule| rule.scheme == scheme && rule.names(endpoint))
    }

    /// True when some rule captures tokens of this host, whatever the port, method and path: which spellings of a path a
    /// server takes for the captured one is for nobody else to know.
    pub(crate) fn captures_at(&self, host: &Host) -> bool {
        self.0.iter().any(|rule| rule.capture.is_some() && rule.host.covers(host))
    }

    /// The rule by which a target is refused that no rule covers.
    fn missing(&self, target: &Target) -> &'static Rule {
        if self.names(target.scheme, &target.endpoint) {
            &rules::PATH_NOT_ALLOWED
        } else if self.0.iter().any(|rule| rule.names(&target.endpoint)) {
            &rules::SCHEME_NOT_ALLOWED
        } else {
            &rules::NOT_ALLOWED
        }
    }
}

impl ReachRule {
    fn names(&self, endpoint: &Endpoint) -> bool {
        self.port == endpoint.port && self.host.covers(&endpoint.host)
    }

    /// True when it is for every method that a rule can name.
    pub(crate) fn takes_every_method(&self) -> bool {
        METHODS.iter().all(|method| self.methods.contains(method))
    }

    /// True when some request is under both, neither names its place more closely, and they cannot both hold: written for
    /// the same host they ask for different things, or they capture its answer into different places.
    fn ties_with(&self, other: &Self) -> bool {
        let differ = if self.host == other.host {
            (&self.require, self.ask, self.single, &self.capture)
                != (&other.require, other.ask, other.single, &other.capture)
        } else {
            let both = self.capture.is_some() && other.capture.is_some();
            self.host.meets(&other.host) && both && self.capture != other.capture
        };
        (self.scheme, self.port, &self.path) == (other.scheme, other.port, &other.path)
            && self.methods.iter().any(|method| other.methods.contains(method))
            && differ
    }

    /// The rule as a manifest would write it; absent where it is for an address or for several names.
    pub fn as_host_rule(&self) -> Option<HostRule> {
        let HostPattern::Exact(Host::Name(host)) = &self.host else { return None };
        Some(HostRule {
            host: host.clone(),
            port: self.port,
            scheme: self.scheme,
            methods: self.methods.clone(),
            path: self.path.clone(),
        })
    }

    fn covers(&self, target: &Target) -> bool {
        self.scheme == target.scheme
            && self.names(&target.endpoint)
            && self.methods.contains(&target.method)
            && self.path.covers(&target.path)
    }
}

impl HostPattern {
    /// Reads a host or `*.NAME`, and refuses a pattern over names that belong to different owners.
    fn parse(text: &str) -> Result<Self, String> {
        let Some(parent) = text.strip_prefix("*.") else {
            if text.contains('*') {
                return Err("a wildcard stands alone and first, as in *.example.com".to_owned());
            }
            return Host::parse(text).map(Self::Exact).map_err(|error| error.to_string());
        };
        let parent = HostName::parse(parent).map_err(|error| error.to_string())?;
        // The public suffix list: what is registered or rented out below these belongs to anyone.
        let suffix = psl::suffix(parent.as_str().as_bytes());
        if suffix.is_none_or(|suffix| suffix.as_bytes() == parent.as_str().as_bytes()) {
            return Err(format!("names under {parent} belong to different owners; name the hosts"));
        }
        Ok(Self::Under(parent))
    }

    fn covers(&self, host: &Host) -> bool {
        match (self, host) {
            (Self::Exact(own), host) => own == host,
            (Self::Under(parent), Host::Name(name)) => name
                .as_str()
                .strip_suffix(parent.as_str())
                .and_then(|rest| rest.strip_suffix('.'))
                .is_some_and(|label| !label.is_empty() && !label.contains('.')),
            (Self::Under(_), Host::Addr(_)) => false,
        }
    }
}

impl HostPattern {
    /// True when some host is under both.
    fn meets(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Exact(host), pattern) | (pattern, Self::Exact(host)) => pattern.covers(host),
            (Self::Under(own), Self::Under(parent)) => own == parent,
        }
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(host) => f.write_str(&host.to_authority()),
            Self::Under(parent) => write!(f, "*.{parent}"),
        }
    }
}

/// As the command line writes it.
impl fmt::Display for ReachRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.methods != METHODS {
            write!(f, "{}:", self.methods.iter().map(Method::as_str).collect::<Vec<_>>().join(","))?;
        }
        let scheme = if self.scheme == Scheme::Http { "http://" } else { "" };
        write!(f, "{scheme}{}:{}{}", self.host, self.port, self.path)
    }
}

/// The refusal when no rule names the place. The command is for the person alone.
pub(crate) fn not_allowed(rule: &'static Rule, scheme: Scheme, endpoint: &Endpoint, more: &str) -> Refusal {
    let before = if scheme == Scheme::Http { "http://" } else { "" };
    Refusal::new(rule, format!("{}://{endpoint}{more}; nothing was sent", scheme.as_str())).widened_by(
        format!("add --allow {before}{endpoint}{more} to the command, or an [[allow]] to its rules file"),
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rule_for(reach: &Reach, method: &str, url: &str) -> Result<String, &'static str> {
        let found = reach.demands(&Target::parse(method, url).unwrap());
        found.map(|demands| demands.to_string()).map_err(|rule| rule.id)
    }

    #[test]
    fn a_word_means_what_its_file_form_means() {
        let words = [
            "api.example.com",
            "GET,POST:api.example.com:8443/v1",
            "http://a.example.com",
            "*.example.com/x",
        ];
        let file = r#"
            [[allow]]
            host = "API.example.com."
            [[allow]]
            host = "api.example.com"
            port = 8443
            methods = ["GET", "POST"]
            path = "/v1"
            [[allow]]
            scheme = "http"
            host = "a.example.com"
            [[allow]]
            host = "*.example.com"
            path = "/x"
        "#;
        let of_words = Reach::of_words(words).unwrap();
        assert_eq!(Reach::parse(file.as_bytes()).unwrap(), of_words);
        let shown: Vec<String> = of_words.rules().iter().map(ToString::to_string).collect();
        assert_eq!(Reach::of_words(shown.iter().map(String::as_str)).unwrap(), of_words);
    }

    #[test]
    fn n06_n12_p01_p02_only_what_a_rule_names() {
        let reach =
            Reach::of_words(["GET:github.com/v1", "*.cdn.example.com", "POST:github.com:8443"]).unwrap();
        assert_eq!(rule_for(&reach, "GET", "https://GitHub.com./v1/x").unwrap(), "GET:github.com:443/v1");
        assert_eq!(rule_for(&reach, "GET", "https://a.cdn.example.com/").unwrap(), "*.cdn.example.com:443/");
        for (method, url, rule) in [
            ("GET", "https://notgithub.com/v1", "policy.not-allowed"),
            ("GET", "https://github.com.evil.com/v1", "policy.not-allowed"),
            ("GET", "https://github.com:22/v1", "policy.not-allowed"),
            ("GET", "https://cdn.example.com/", "policy.not-allowed"),
            ("GET", "https://b.a.cdn.example.com/", "policy.not-allowed"),
            ("GET", "https://xcdn.example.com/", "policy.not-allowed"),
            ("GET", "https://140.82.121.4/v1", "policy.not-allowed"),
            ("GET", "https://github.com/v10", "policy.method-or-path"),
            ("POST", "https://github.com/v1", "policy.method-or-path"),
            ("GET", "http://github.com:443/v1", "policy.scheme"),
        ] {
            assert_eq!(rule_for(&reach, method, url), Err(rule), "{method} {url}");
        }
        assert_eq!(rule_for(&Reach::default(), "GET", "https://github.com/"), Err("policy.not-allowed"));
    }

    #[test]
    fn n09_a_wildcard_over_other_peoples_names_is_refused() {
        for wide in
            ["*", "*.com", "*.co.uk", "*.github.io", "*.s3.amazonaws.com", "*.example", "*.*.a.com", "a*.com"]
        {
            let error = Reach::of_words([wide]).unwrap_err().to_string();
            assert!(error.starts_with("rule 1: the host: "), "{wide}: {error}");
        }
        assert!(Reach::of_words(["*.example.com", "*.me.github.io"]).is_ok());
    }

    #[test]
    fn r16_r17_a_set_with_one_mistake_is_no_set() {
        for bad in [
            "",
            "allow = 1",
            "[[allow]]",
            "[[allow]]\nhost = \"a.com\"\nmethod = [\"GET\"]",
            "[[allow]]\nhost = \"a.com\"\nmethods = []",
            "[[allow]]\nhost = \"a.com\"\nmethods = [\"get\"]",
            "[[allow]]\nhost = \"a.com\"\nport = 0",
            "[[allow]]\nhost = \"a.com\"\npath = \"/a/../b\"",
            "[[allow]]\nhost = \"a.com\"\nscheme = \"ftp\"",
            "[[allow]]\nhost = \"\"",
            "[[allow]]\nhost = \"a.com\"\n[[allow]]\nhost = \"*\"",
            "[[deny]]\nhost = \"a.com\"",
            "[[allow]]\nhost = \"a.com\"\ncapture = true",
            "[[allow]]\nhost = \"a.com\"\ncapture = { refresh_token = \"R\" }",
            "[[allow]]\nhost = \"a.com\"\ncapture = { access_token = \"a b\" }",
            "[[allow]]\nhost = \"a.com\"\ncapture = { access_token = \"A\", id_token = \"A\" }",
            "[[allow]]\nhost = \"a.com\"\ncapture = { access_token = \"A\", mac_token = \"B\" }",
            "[[allow]]\nhost = \"a.com\"\nscheme = \"http\"\ncapture = { access_token = \"A\" }",
        ] {
            assert!(Reach::parse(bad.as_bytes()).is_err(), "{bad}");
        }
        assert_eq!(Reach::parse(b"allow = []").unwrap(), Reach::default());
        for bad in [
            "",
            ":443",
            "a.com:0",
            "a.com:65536",
            "a.com:",
            "ftp://a.com",
            "user@a.com",
            "a.com/?q",
            "TRACE:a.com",
        ] {
            assert!(Reach::of_words([bad]).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_is_wrong_with_a_word_is_said_of_the_part_that_is_wrong() {
        for (word, part) in [
            ("get:a.com", "the methods"),
            ("GET,FOO:x", "the methods"),
            ("get:http://a.com", "the methods"),
            ("https://a.com/y?z", "the path: it ends before '?'"),
            ("a.com/y#z", "the path: it ends before '?'"),
            ("a.com:x", "the port"),
            ("localhost:0", "the port"),
            ("ftp://a.com", "the scheme"),
        ] {
            let error = Reach::of_words([word]).unwrap_err().to_string();
            assert!(error.starts_with(&format!("rule 1: {part}")), "{word}: {error}");
        }
    }

    #[test]
    fn c18_the_longest_path_decides() {
        let text =
            "[[allow]]\nhost = \"a.com\"\npath = \"/v1\"\nrequire = \"KEY\"\n[[allow]]\nhost = \"a.com\"";
        let reach = Reach::parse(text.as_bytes()).unwrap();
        let requires = |url: &str| {
            reach.demands(&Target::parse("GET", url).unwrap()).unwrap().required().next().is_some()
        };
        assert!(requires("https://a.com/v1/x") && !requires("https://a.com/v2"));
    }

    /// What is asked of a request: for the owner's word, for a single object, for these secrets.
    fn asked(rules: &[&str], method: &str, url: &str) -> (bool, bool, Vec<String>) {
        let rules: String = rules.iter().map(|rule| format!("[[allow]]\n{rule}\n")).collect();
        let reach = Reach::parse(rules.as_bytes()).unwrap();
        let demands = reach.demands(&Target::parse(method, url).unwrap()).unwrap();
        (demands.ask(), demands.single(), demands.required().map(ToString::to_string).collect())
    }

    #[test]
    fn c18_rules_for_one_host_and_for_many_hold_together() {
        let exact = "host = \"pay.a.com\"\nrequire = \"QK\"\nsingle = true";
        let many = "host = \"*.a.com\"\nask = true\nrequire = \"PK\"";
        for rules in [[exact, many], [many, exact]] {
            let (ask, single, mut required) = asked(&rules, "POST", "https://pay.a.com/x");
            required.sort();
            assert!(ask && single && required == ["PK", "QK"], "{required:?}");
        }
        assert_eq!(asked(&[exact, many], "POST", "https://b.a.com/x"), (true, false, vec!["PK".to_owned()]));
        // Captures cannot be joined.
        let capture = |host: &str, name: &str| {
            format!("[[allow]]\nhost = \"{host}\"\ncapture = {{ access_token = \"{name}\" }}\n")
        };
        let both = capture("*.a.com", "A") + &capture("pay.a.com", "B");
        assert!(matches!(Reach::parse(both.as_bytes()), Err(ReachError::Tie(_))));
        assert!(Reach::parse((capture("*.a.com", "A") + &capture("a.com", "B")).as_bytes()).is_ok());
    }

    #[test]
    fn p01_no_spelling_of_a_path_leads_around_what_its_rule_asks() {
        let rules = ["host = \"a.com\"", "host = \"a.com\"\npath = \"/transfer\"\nask = true\nsingle = true"];
        for spelt in [
            "/transfer",
            "/transfer;x=1",
            "/Transfer",
            "/TRANSFER/now",
            "/transfer%20",
            "/transfer.",
            "/transfer.json",
            "/transfer;a/b;c",
            "/Transfer.json;x",
        ] {
            let asked = asked(&rules, "POST", &format!("https://a.com{spelt}"));
            assert_eq!(asked, (true, true, vec![]), "{spelt}");
        }
        for other in ["/", "/transfers", "/x/transfer", "/transfer-2"] {
            assert_eq!(
                asked(&rules, "POST", &format!("https://a.com{other}")),
                (false, false, vec![]),
                "{other}"
            );
        }
        // Nor does one lead into a rule that asks for less.
        let rules = ["host = \"a.com\"\nask = true", "host = \"a.com\"\npath = \"/public\""];
        assert!(
            !asked(&rules, "GET", "https://a.com/public/x").0
                && asked(&rules, "GET", "https://a.com/Public/x").0
        );
        // What is asked of GET is asked of HEAD.
        let rules =
            ["host = \"a.com\"", "host = \"a.com\"\npath = \"/pay\"\nmethods = [\"GET\"]\nask = true"];
        assert!(
            asked(&rules, "HEAD", "https://a.com/pay").0 && !asked(&rules, "POST", "https://a.com/pay").0
        );
        // A spelling allows nothing.
        let reach = Reach::of_words(["a.com/v1"]).unwrap();
        assert_eq!(rule_for(&reach, "GET", "https://a.com/V1"), Err("policy.method-or-path"));
    }

    #[test]
    fn p02_a_method_counts_where_a_rule_at_the_place_or_under_it_is_for_some() {
        let narrow = |words: &[&str], url: &str| {
            let reach = Reach::of_words(words.iter().copied()).unwrap();
            reach.demands(&Target::parse("GET", url).unwrap()).unwrap().is_narrow()
        };
        assert!(narrow(&["GET:a.com"], "https://a.com/x") && !narrow(&["a.com"], "https://a.com/x"));
        assert!(narrow(&["a.com", "POST:a.com/pay"], "https://a.com/Pay"));
        assert!(!narrow(&["a.com", "POST:a.com/pay"], "https://a.com/x"));
        assert!(!narrow(&["GET:a.com", "a.com/free"], "https://a.com/free"));
    }

    #[test]
    fn c18_two_rules_for_one_place_that_ask_for_different_things_are_refused() {
        let rule = |more: &str| format!("[[allow]]\nhost = \"a.com\"\n{more}\n");
        for (one, other) in [
            ("ask = true", "require = \"KEY\""),
            ("", "single = true"),
            ("methods = [\"GET\", \"PUT\"]", "methods = [\"PUT\"]\nask = true"),
            ("capture = { access_token = \"A\" }", "capture = { access_token = \"B\" }"),
        ] {
            let both = rule(one) + &rule(other);
            assert!(matches!(Reach::parse(both.as_bytes()), Err(ReachError::Tie(_))), "{both}");
            let (one, other) = (Reach::parse(rule(one).as_bytes()), Reach::parse(rule(other).as_bytes()));
            assert!(matches!(one.unwrap().and(other.unwrap()), Err(ReachError::Tie(_))));
        }
        // The same twice, other methods and another path are no tie.
        for (one, other) in [
            ("ask = true", "ask = true"),
            ("methods = [\"GET\"]", "methods = [\"PUT\"]\nask = true"),
            ("", "path = \"/v1\"\nask = true"),
            ("", "port = 8443\nask = true"),
        ] {
            assert!(Reach::parse((rule(one) + &rule(other)).as_bytes()).is_ok(), "{one} {other}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), word in "\\PC{0,60}") {
            let _ = (Reach::parse(&bytes), Reach::of_words([word.as_str()]));
        }

        /// A rule that was read allows what it shows, and shows what it allows.
        #[test]
        fn rules_read_themselves_back(word in "(GET:|GET,PUT:)?(http://)?[a-z]{1,8}\\.com(:[1-9][0-9]{0,3})?(/[a-z]{1,4}){0,3}") {
            let reach = Reach::of_words([word.as_str()]).unwrap();
            let shown = reach.rules()[0].to_string();
            prop_assert_eq!(Reach::of_words([shown.as_str()]).unwrap(), reach);
        }
    }
}

//! A rules file of any content: refused, or rules that read themselves back, and what narrows them is never lost.
#![no_main]

use libfuzzer_sys::fuzz_target;
use policy::Reach;
use types::Scheme;

fuzz_target!(|data: &[u8]| {
    let Ok(reach) = Reach::parse(data) else { return };
    for rule in reach.rules() {
        assert!(rule.scheme == Scheme::Https || rule.require.is_none() && rule.capture.is_none());
        assert!(!rule.methods.is_empty());
        // The word of a rule is the rule, but for what only a file can say.
        let word = rule.to_string();
        let read = Reach::of_words([word.as_str()]).unwrap_or_else(|error| panic!("{word}: {error}"));
        let [read] = read.rules() else { panic!("{word}") };
        let same = (&read.scheme, &read.host, &read.port, &read.path)
            == (&rule.scheme, &rule.host, &rule.port, &rule.path);
        assert!(same && read.methods == rule.methods, "{word}");
    }
});

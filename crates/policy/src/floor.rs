//! The floor: what no configuration and no policy can allow. Pure functions of labels and manifests.
//!
//! This is what holds when every pattern has been evaded and the model is wholly on the attacker's
//! side (Denning's lattice, applied to tool calls as in FIDES and CaMeL): content from outside does
//! not drive a tool that changes something, and private content does not flow to the network, unless
//! the owner approves that very call.

use std::collections::BTreeSet;

use types::{Confidentiality, HostName, Integrity, Label, Refusal, Rule, Scheme, Target};

use crate::manifest::{HostRule, Manifest};
use crate::rules;

/// What a turn has read so far: its label, and the hosts that already know its private part. What a
/// host answered under the owner's key may go back to that host and to no other.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Flow {
    label: Label,
    readers: BTreeSet<HostName>,
}

impl Flow {
    /// Nothing read yet.
    pub const CLEAN: Self = Self { label: Label::CLEAN, readers: BTreeSet::new() };

    /// The label alone.
    pub fn label(&self) -> Label {
        self.label
    }

    /// Adds content of that label which only the owner and `readers` may read.
    pub fn absorb(&mut self, label: Label, readers: &BTreeSet<HostName>) {
        if label.confidentiality == Confidentiality::Private {
            self.readers = match self.label.confidentiality {
                Confidentiality::Public => readers.clone(),
                Confidentiality::Private => self.readers.intersection(readers).cloned().collect(),
            };
        }
        self.label = self.label.join(label);
    }

    /// True when everything read so far may be told to this tool's hosts.
    fn may_reach(&self, manifest: &Manifest) -> bool {
        self.label.confidentiality == Confidentiality::Public
            || manifest.hosts.iter().all(|rule| self.readers.contains(&rule.host))
    }
}

/// The rule that makes this call one for the owner to approve, if any.
pub fn must_ask(flow: &Flow, manifest: &Manifest) -> Option<&'static Rule> {
    if flow.label.integrity == Integrity::Untrusted && manifest.changes_things() {
        return Some(&rules::UNTRUSTED_DRIVES);
    }
    // What such a call reads flows out in the call itself, where nobody can look at it in between.
    if manifest.reads_and_sends() || !flow.may_reach(manifest) {
        return Some(&rules::PRIVATE_FLOWS_OUT);
    }
    None
}

/// Finds the manifest's rule for a target, or says what is missing.
pub fn host_rule<'a>(manifest: &'a Manifest, target: &Target) -> Result<&'a HostRule, Refusal> {
    let named: Vec<&HostRule> = manifest.hosts.iter().filter(|rule| rule.names(target)).collect();
    if named.is_empty() {
        let detail = format!("{} asked for {}", manifest.name, target.endpoint);
        return Err(Refusal::new(&rules::HOST_NOT_LISTED, detail).widened_by(format!(
            "add {} to the tool's manifest and install it again: ironclaw tool install PATH",
            target.endpoint
        )));
    }
    let Some(rule) = named.iter().find(|rule| rule.covers(target)) else {
        let detail = format!("{} asked for {target}", manifest.name);
        return Err(Refusal::new(&rules::PATH_NOT_LISTED, detail).widened_by(
            "add the method and path to the tool's manifest and install it again: ironclaw tool install PATH",
        ));
    };
    if target.scheme == Scheme::Http && rule.scheme == Scheme::Https {
        return Err(Refusal::new(&rules::CLEAR_TEXT, format!("{} asked for {target}", manifest.name))
            .widened_by("say clear_text = true for a host rule of its own in the manifest: ironclaw tool install PATH"));
    }
    Ok(rule)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(hosts: &str, extra: &str) -> Manifest {
        let text = format!(
            "name = \"t\"\nversion = \"1.0.0\"\ndescription = \"d\"\n{extra}\nparameters.type = \"object\"\n{hosts}"
        );
        Manifest::parse(text.as_bytes()).unwrap()
    }

    const READER: &str = "[[hosts]]\nhost = \"a.example\"\nmethods = [\"GET\"]\npath = \"/v1\"";
    const WRITER: &str = "[[hosts]]\nhost = \"a.example\"\nmethods = [\"POST\"]";

    fn flow(integrity: Integrity, confidentiality: Confidentiality, readers: &[&str]) -> Flow {
        let mut flow = Flow::CLEAN;
        let readers = readers.iter().map(|host| HostName::parse(host).unwrap()).collect();
        flow.absorb(Label { integrity, confidentiality }, &readers);
        flow
    }

    #[test]
    fn untrusted_content_does_not_drive_what_changes_things() {
        let untrusted = flow(Integrity::Untrusted, Confidentiality::Public, &[]);
        assert_eq!(must_ask(&untrusted, &manifest(WRITER, "")), Some(&rules::UNTRUSTED_DRIVES));
        assert_eq!(
            must_ask(&untrusted, &manifest("", "consequential = true")),
            Some(&rules::UNTRUSTED_DRIVES)
        );
        assert_eq!(must_ask(&untrusted, &manifest(READER, "")), None);
        assert_eq!(must_ask(&Flow::CLEAN, &manifest(WRITER, "")), None);
    }

    #[test]
    fn private_content_goes_back_only_where_it_came_from() {
        let reader = manifest(READER, "");
        let file = flow(Integrity::Trusted, Confidentiality::Private, &[]);
        assert_eq!(must_ask(&file, &reader), Some(&rules::PRIVATE_FLOWS_OUT));
        assert_eq!(must_ask(&file, &manifest("", "")), None);
        let mut answered = flow(Integrity::Trusted, Confidentiality::Private, &["a.example"]);
        assert_eq!(must_ask(&answered, &reader), None);
        answered.absorb(file.label(), &BTreeSet::new());
        assert_eq!(must_ask(&answered, &reader), Some(&rules::PRIVATE_FLOWS_OUT));
    }

    #[test]
    fn a_call_that_reads_files_and_sends_is_for_the_owner_to_approve() {
        let mut shell = Manifest::built_in(
            types::ToolName::parse("shell").unwrap(),
            types::Lane::Shell,
            "d".to_owned(),
            serde_json::json!({"type": "object"}),
            false,
        );
        assert_eq!(must_ask(&Flow::CLEAN, &shell), None);
        assert_eq!(shell.readers(), BTreeSet::new());
        shell.hosts = manifest(READER, "").hosts;
        assert_eq!(must_ask(&Flow::CLEAN, &shell), Some(&rules::PRIVATE_FLOWS_OUT));
        // What it returned is nobody's but the owner's, whatever hosts it reaches.
        assert_eq!(shell.readers(), BTreeSet::new());
        assert_eq!(manifest(READER, "").readers().len(), 1);
        assert_eq!(manifest(READER, "workspace = true").readers().len(), 0);
    }

    #[test]
    fn w18_only_listed_targets() {
        let reader = manifest(READER, "");
        let rule = |method: &str, url: &str| {
            host_rule(&reader, &Target::parse(method, url).unwrap())
                .map(|_| ())
                .map_err(|refusal| refusal.rule.id)
        };
        assert_eq!(rule("GET", "https://A.example./v1/x"), Ok(()));
        assert_eq!(rule("GET", "https://b.example/v1"), Err("policy.host-not-listed"));
        assert_eq!(rule("GET", "https://a.example:444/v1"), Err("policy.host-not-listed"));
        assert_eq!(rule("GET", "https://a.example.evil.example/v1"), Err("policy.host-not-listed"));
        assert_eq!(rule("GET", "https://93.184.216.34/v1"), Err("policy.host-not-listed"));
        assert_eq!(rule("POST", "https://a.example/v1"), Err("policy.path-not-listed"));
        assert_eq!(rule("GET", "https://a.example/v2"), Err("policy.path-not-listed"));
        assert_eq!(rule("GET", "http://a.example:443/v1"), Err("policy.clear-text"));
    }
}

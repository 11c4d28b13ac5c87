//! What rests on grants is recorded only where none was changed since they were read, by whomever (C19).

use std::io::{BufRead as _, Write as _};

use audit::{Audit, ChangeError, Moment};
use store::{Lost, Mutation};
use types::{Kind, Record, Tenant, Verdict};

use crate::fixture::{Fixture, Other, numbered, open, pair, say, told_path};

const LOST: ChangeError = ChangeError::Lost(Lost::Changed);

/// Another process on the same log.
struct Stranger(Other);

impl Stranger {
    fn start(fixture: &Fixture) -> Self {
        Self(Other::start("moments::child_does_as_it_is_told", &fixture.path()))
    }

    /// Has it record a call, give a grant or take it back, and returns when that is durable.
    fn does(&mut self, what: &str) {
        writeln!(self.0.child.stdin.as_mut().unwrap(), "{what}").unwrap();
        assert_eq!(self.0.next("done").unwrap(), what);
    }
}

async fn rests_on(audit: &Audit, moment: Moment, number: u64) -> Result<(), ChangeError> {
    audit.record_as_of(moment, numbered(number), None).await.map(drop)
}

#[tokio::test]
async fn c19_what_rests_on_grants_is_recorded_only_where_none_was_changed_since() {
    for fixture in Fixture::both().await {
        let audit = &fixture.audit;
        audit.record(numbered(0)).await.unwrap();
        let first = audit.moment();
        rests_on(audit, first, 1).await.unwrap();
        audit.record(numbered(2)).await.unwrap();
        rests_on(audit, first, 3).await.unwrap();
        let (record, grant) = pair(4);
        let change = || audit.change(record.clone(), grant.clone());
        // In one group, one after the other.
        let (changed, lost) = tokio::join!(change(), rests_on(audit, first, 5));
        assert_eq!((changed.is_ok(), lost), (true, Err(LOST)));
        assert_eq!(rests_on(audit, first, 6).await, Err(LOST));
        let second = audit.moment();
        // A change that is not made passes no moment.
        assert_eq!(change().await, Err(ChangeError::Lost(Lost::Exists)));
        rests_on(audit, second, 7).await.unwrap();
        assert_eq!(fixture.log().tail(100).await.unwrap().len(), 6);
    }
}

#[tokio::test]
async fn c19_of_another_processs_records_those_count_that_may_tell_of_grants() {
    for fixture in Fixture::both().await {
        let (audit, mut stranger) = (&fixture.audit, Stranger::start(&fixture));
        audit.record(numbered(0)).await.unwrap();
        let mut moment = audit.moment();
        for number in 1..=20 {
            stranger.does("record");
            rests_on(audit, moment, number).await.unwrap();
            for change in ["grant", "revoke"] {
                stranger.does(change);
                // Of several in one group each is judged, and none is recorded.
                let (one, two) = tokio::join!(rests_on(audit, moment, 98), rests_on(audit, moment, 99));
                assert_eq!((one, two), (Err(LOST), Err(LOST)), "{change} {number}");
                moment = audit.moment();
                rests_on(audit, moment, number).await.unwrap();
            }
        }
        // More than are looked at may be anything.
        stranger.does("many");
        assert_eq!(rests_on(audit, moment, 99).await, Err(LOST));
        assert_eq!(fixture.log().tail(1000).await.unwrap().len(), 1 + 20 * 6 + 300);
        stranger.0.finish();
    }
}

/// Not a test of its own: the other process of the ones above.
#[tokio::test]
#[ignore = "started by the tests of moments"]
async fn child_does_as_it_is_told() {
    let Some(path) = told_path() else { return };
    let (_reader, writer) = open(&path).await.unwrap();
    let (audit, drain) = Audit::start(writer);
    let (given, grant) = pair(1);
    for line in std::io::stdin().lock().lines() {
        let what = line.unwrap();
        match what.as_str() {
            "grant" => {
                audit.change(given.clone(), grant.clone()).await.unwrap();
            }
            "revoke" => {
                let delete = Mutation::DeleteGrant { tenant: Tenant::local(), id: "1".to_owned() };
                let revoked = Record::new(Kind::Revoke, Verdict::Done);
                audit.change(revoked, delete).await.unwrap();
            }
            "many" => {
                for number in 0..300 {
                    audit.record(numbered(number)).await.unwrap();
                }
            }
            _ => {
                audit.record(numbered(0)).await.unwrap();
            }
        }
        say("done", what);
    }
    drop(audit);
    drain.finish().await;
}

#[tokio::test]
async fn grants_are_not_changed_under_a_record_of_something_else() {
    for fixture in Fixture::both().await {
        let (_, grant) = pair(1);
        let hidden = fixture.audit.change(numbered(1), grant).await;
        assert_eq!(hidden, Err(ChangeError::Lost(Lost::Invalid)));
        assert!(fixture.reader.all_grants(&Tenant::local()).await.unwrap().is_empty());
        assert!(fixture.log().tail(1).await.unwrap().is_empty());
    }
}

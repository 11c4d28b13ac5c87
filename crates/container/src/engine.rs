//! Docker Engine, and whether it can hold what is promised.

use std::io::ErrorKind;
use std::path::Path;

use bollard::errors::Error;
use bollard::models::{Runtime, SystemInfo, SystemVersion};
use bollard::{API_DEFAULT_VERSION, Docker};

use crate::config::{Config, Downgrade};
use crate::proof::Numbers;
use crate::runc::{self, Verdict};
use crate::unfit::{Unfit, plain};

/// Seconds that the engine may take for one answer. Starting a container on a busy machine takes a few.
const ANSWER_SECONDS: u64 = 60;

/// The runtime's name in an engine that was not told otherwise.
const RUNC: &str = "runc";

/// An engine that was found fit, or whose faults the owner accepted.
#[derive(Clone, Debug)]
pub struct Engine {
    pub(crate) docker: Docker,
    standing: Standing,
}

/// What an engine is, for a person and for the record.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Standing {
    /// Its version.
    pub version: String,
    /// The runtime that starts containers.
    pub runtime: String,
    /// The version of that runtime, where the engine tells it.
    pub runtime_version: Option<String>,
    /// Faults that the configuration accepts, with the downgrade that does.
    pub accepted: Vec<(Downgrade, Unfit)>,
}

impl Engine {
    /// Asks an engine what it is. Refuses one that cannot hold what is promised.
    pub async fn connect(config: &Config) -> Result<Self, Unfit> {
        if !cfg!(target_os = "linux") {
            return Err(Unfit::NotLinux);
        }
        let docker = open(&config.engine)?;
        let unanswered = |error| unanswered(error, &config.engine);
        // Each takes the engine some milliseconds, and none needs another's answer.
        let asked = tokio::try_join!(docker.clone().negotiate_version(), docker.version(), docker.info());
        let (docker, version, info) = asked.map_err(unanswered)?;
        let standing = judge(config, &version, &info)?;
        Ok(Self { docker, standing })
    }

    /// What was found.
    pub fn standing(&self) -> &Standing {
        &self.standing
    }
}

fn open(socket: &Path) -> Result<Docker, Unfit> {
    let shown = || plain(&socket.to_string_lossy());
    match std::fs::metadata(socket) {
        Err(error) if error.kind() == ErrorKind::PermissionDenied => return Err(Unfit::Denied(shown())),
        Err(_) => return Err(Unfit::NoEngine(shown())),
        Ok(_) => {}
    }
    Docker::connect_with_unix(&socket.to_string_lossy(), ANSWER_SECONDS, API_DEFAULT_VERSION)
        .map_err(|_| Unfit::NoEngine(shown()))
}

fn unanswered(error: Error, socket: &Path) -> Unfit {
    let denied = std::fs::OpenOptions::new().write(true).open(socket);
    let denied = denied.is_err_and(|error| error.kind() == ErrorKind::PermissionDenied);
    let shown = plain(&socket.to_string_lossy());
    match error {
        Error::DockerResponseServerError { .. } => Unfit::Broken("it answers with an error"),
        _ if denied => Unfit::Denied(shown),
        _ => Unfit::NoEngine(shown),
    }
}

/// Holds what the engine says of itself against what is promised.
fn judge(config: &Config, version: &SystemVersion, info: &SystemInfo) -> Result<Standing, Unfit> {
    let filters = |option: &String| option.split(',').any(|part| part == "name=seccomp");
    if !info.security_options.iter().flatten().any(filters) {
        return Err(Unfit::NoSeccomp);
    }
    let default = info.default_runtime.clone().unwrap_or_else(|| RUNC.to_owned());
    let runtime = config.runtime.clone().unwrap_or(default);
    let known = info.runtimes.iter().flatten().find(|(name, _)| **name == runtime);
    let Some((_, known)) = known else { return Err(Unfit::NoRuntime(plain(&runtime))) };
    let (runtime_version, fault) = runtime_fault(&runtime, known, version);
    let accepted = match fault {
        None => Vec::new(),
        Some(fault) => match fault.downgrade().filter(|downgrade| config.downgrades.contains(downgrade)) {
            Some(downgrade) => vec![(downgrade, fault)],
            None => return Err(fault),
        },
    };
    let engine = plain(version.version.as_deref().unwrap_or_default());
    Ok(Standing { version: engine, runtime: plain(&runtime), runtime_version, accepted })
}

/// The version of a runtime, where it is runc and the engine tells it, and what is to be said against it. A runtime with
/// a kernel of its own shares none of these holes.
fn runtime_fault(name: &str, runtime: &Runtime, version: &SystemVersion) -> (Option<String>, Option<Unfit>) {
    if Numbers::under(name) == Numbers::Runtime {
        return (None, None);
    }
    // What the engine starts itself unless it was given another path; from 25 on it asks whatever it was given.
    let told = told_version(runtime);
    let own = name == RUNC || name == "io.containerd.runc.v2";
    let Some(version) = told.or_else(|| own.then(|| runc_version(version))) else {
        // NVIDIA's starts the runc that it finds, most likely the engine's.
        let wrapped = runc_version(version);
        let fault = match name.contains("nvidia") && runc::judge(&wrapped) == Verdict::Open {
            true => Unfit::VulnerableRuntime(wrapped),
            false => Unfit::UnknownRuntime(plain(name)),
        };
        return (None, Some(fault));
    };
    let fault = match runc::judge(&version) {
        Verdict::Closed => None,
        Verdict::Open => Some(Unfit::VulnerableRuntime(version.clone())),
        Verdict::Unverifiable => Some(Unfit::UnverifiableRuntime(version.clone())),
    };
    (Some(version), fault)
}

fn runc_version(version: &SystemVersion) -> String {
    let components = version.components.iter().flatten();
    let runc = components.into_iter().find(|component| component.name == RUNC);
    runc.map(|component| plain(&component.version)).unwrap_or_default()
}

/// The version of runc, in the words of the runtime itself: an annotation of what it says that it can do (the OCI Runtime
/// Specification's `features` document).
fn told_version(runtime: &Runtime) -> Option<String> {
    let features = runtime.status.as_ref()?.get("org.opencontainers.runtime-spec.features")?;
    let features: serde_json::Value = serde_json::from_str(features).ok()?;
    features["annotations"]["org.opencontainers.runc.version"].as_str().map(plain)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use bollard::models::SystemVersionComponents;

    use super::*;
    use crate::config::Limits;

    fn config(downgrades: &[Downgrade]) -> Config {
        Config {
            engine: "/nowhere/docker.sock".into(),
            runtime: None,
            downgrades: downgrades.iter().copied().collect(),
            limits: Limits::default(),
            folder: "/nowhere".into(),
        }
    }

    fn says(runc: &str, options: &[&str]) -> (SystemVersion, SystemInfo) {
        let component =
            SystemVersionComponents { name: RUNC.to_owned(), version: runc.to_owned(), details: None };
        let version = SystemVersion { components: Some(vec![component]), ..SystemVersion::default() };
        let info = SystemInfo {
            security_options: Some(options.iter().map(|option| (*option).to_owned()).collect()),
            runtimes: Some(HashMap::from([(RUNC.to_owned(), Runtime::default())])),
            ..SystemInfo::default()
        };
        (version, info)
    }

    const SECCOMP: &[&str] = &["name=apparmor", "name=seccomp,profile=default"];

    #[test]
    fn r15_an_old_runtime_is_refused_unless_the_owner_gives_the_promise_up() {
        let (version, info) = says("1.2.8", SECCOMP);
        assert_eq!(judge(&config(&[]), &version, &info).unwrap().accepted, []);

        let (version, info) = says("1.1.5+ds1-1+deb12u1", SECCOMP);
        let fault = Unfit::UnverifiableRuntime("1.1.5+ds1-1+deb12u1".to_owned());
        assert_eq!(judge(&config(&[]), &version, &info), Err(fault.clone()));
        let downgrade = Downgrade::UnverifiableRuntime;
        assert_eq!(judge(&config(&[downgrade]), &version, &info).unwrap().accepted, [(downgrade, fault)]);

        let (version, info) = says("1.2.7", SECCOMP);
        let fault = Unfit::VulnerableRuntime("1.2.7".to_owned());
        assert!(fault.to_string().contains("CVE-2025-31133"));
        assert_eq!(judge(&config(&[Downgrade::UnverifiableRuntime]), &version, &info), Err(fault));
    }

    #[test]
    fn r15_a_runtime_of_another_name_is_not_taken_for_a_sound_one() {
        let judged = |runc: &str, name: &str, features: Option<&str>, downgrades: &[Downgrade]| {
            let (version, mut info) = says(runc, SECCOMP);
            let key = "org.opencontainers.runtime-spec.features".to_owned();
            let status = features.map(|version| {
                HashMap::from([(
                    key,
                    format!(r#"{{"annotations":{{"org.opencontainers.runc.version":"{version}"}}}}"#),
                )])
            });
            let runtime = Runtime { path: Some(name.to_owned()), status, ..Runtime::default() };
            info.runtimes.as_mut().unwrap().insert(name.to_owned(), runtime);
            judge(&Config { runtime: Some(name.to_owned()), ..config(downgrades) }, &version, &info)
        };
        let unknown = |name: &str| Unfit::UnknownRuntime(name.to_owned());
        // It starts whichever runc it finds.
        assert_eq!(judged("1.2.7", "nvidia", None, &[]), Err(Unfit::VulnerableRuntime("1.2.7".to_owned())));
        for name in ["nvidia", "crun", "youki", "my-runc"] {
            assert_eq!(judged("1.3.3", name, None, &[]), Err(unknown(name)), "{name}");
            let downgrade = Downgrade::UnverifiableRuntime;
            let accepted = judged("1.3.3", name, None, &[downgrade]).unwrap();
            assert_eq!(
                (accepted.accepted, accepted.runtime_version),
                (vec![(downgrade, unknown(name))], None)
            );
        }
        assert!(unknown("crun").to_string().contains("CVE-2025-31133"));
        // One that says which runc it is is judged by that.
        assert_eq!(judged("1.2.7", "my-runc", Some("1.3.3"), &[]).unwrap().accepted, []);
        assert_eq!(
            judged("1.3.3", "my-runc", Some("1.2.7"), &[]),
            Err(Unfit::VulnerableRuntime("1.2.7".to_owned()))
        );
        // A kernel of its own.
        assert_eq!(judged("1.2.7", "runsc", None, &[]).unwrap().accepted, []);
    }

    #[test]
    fn r15_an_engine_without_seccomp_or_the_runtime_is_refused() {
        let all = [Downgrade::UnverifiableRuntime, Downgrade::VulnerableRuntime];
        let (version, info) = says("1.3.3", &["name=apparmor", "name=no-seccomp"]);
        assert_eq!(judge(&config(&all), &version, &info), Err(Unfit::NoSeccomp));
        let (version, info) = says("1.3.3", SECCOMP);
        let config = Config { runtime: Some("runsc".to_owned()), ..config(&all) };
        assert_eq!(judge(&config, &version, &info), Err(Unfit::NoRuntime("runsc".to_owned())));
    }

    #[tokio::test]
    async fn r15_no_engine_is_refused_with_the_command_that_mends_it() {
        let unfit = Engine::connect(&config(&[])).await.unwrap_err();
        assert_eq!(unfit, Unfit::NoEngine("/nowhere/docker.sock".to_owned()));
        assert!(unfit.remedy().contains("apt-get install docker.io"));
    }
}

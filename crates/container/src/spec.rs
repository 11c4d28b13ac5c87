//! The container of one run, as data.

use std::collections::HashMap;
use std::path::Path;

use bollard::models::{
    ContainerCreateBody, HealthConfig, HostConfig, HostConfigLogConfig, ResourcesUlimits, RestartPolicy,
    RestartPolicyNameEnum,
};
use init::{Invocation, PROXY_PORT};
use workspace::Held;

use crate::authority::TRUSTED;
use crate::config::Limits;
use crate::container::Inside;
use crate::mounts::{self, Bind, HOME, TEMPORARY, WORKSPACE};

/// The system calls that a container may make; everything else fails with EPERM. One group of calls an entry, each
/// with its reason.
const SECCOMP: &str = include_str!("seccomp.json");

/// Marks containers of this program, with the name of the installation that they are of.
pub(crate) const LABEL: &str = "org.ironclaw.installation";

/// Bytes of `/dev/shm`.
const SHARED_MEMORY: i64 = 64 << 20;

/// What every terminal of today can do, whatever the caller's is called.
const TERM: &str = "xterm-256color";

/// Everything that differs from one run to the next.
#[derive(Debug)]
pub(crate) struct Plan<'a> {
    pub(crate) installation: &'a str,
    pub(crate) image: &'a str,
    /// Folders that the image declares as volumes.
    pub(crate) volumes: &'a [String],
    pub(crate) inside: &'a Inside,
    pub(crate) user: (u32, u32),
    /// What of this program's own is mounted.
    pub(crate) binds: &'a [Bind],
    /// The workspace as it was checked: it is mounted, and what was mounted is reported.
    pub(crate) folder: &'a Path,
    pub(crate) held: &'a Held,
    pub(crate) argv: &'a [String],
    /// Whether the command may write its workspace.
    pub(crate) writes: bool,
    pub(crate) limits: &'a Limits,
    pub(crate) runtime: &'a str,
}

impl Plan<'_> {
    /// What the engine is asked to create. Whatever the image says of its entry point, user, volumes, health check
    /// and stop signal is overridden; of its environment nothing reaches the command.
    pub(crate) fn to_body(&self) -> ContainerCreateBody {
        let strings = |args: Vec<std::ffi::OsString>| {
            args.into_iter().map(|arg| arg.to_string_lossy().into_owned()).collect::<Vec<_>>()
        };
        let arguments = std::iter::once("run".to_owned()).chain(strings(self.invocation().to_args()));
        ContainerCreateBody {
            image: Some(self.image.to_owned()),
            user: Some(format!("{}:{}", self.user.0, self.user.1)),
            hostname: Some("sandbox".to_owned()),
            entrypoint: Some(vec![init::PROGRAM.to_owned()]),
            cmd: Some(arguments.collect()),
            working_dir: Some("/".to_owned()),
            healthcheck: Some(HealthConfig {
                test: Some(vec!["NONE".to_owned()]),
                ..HealthConfig::default()
            }),
            stop_signal: Some("SIGKILL".to_owned()),
            tty: Some(self.inside.terminal.is_some()),
            open_stdin: Some(true),
            stdin_once: Some(true),
            attach_stdin: Some(true),
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            labels: Some(HashMap::from([(LABEL.to_owned(), self.installation.to_owned())])),
            host_config: Some(self.host_config()),
            ..ContainerCreateBody::default()
        }
    }

    fn host_config(&self) -> HostConfig {
        let limits = self.limits;
        let shared = mounts::workspace(self.folder, self.held);
        let bytes = |bytes: u64| Some(i64::try_from(bytes).unwrap_or(i64::MAX));
        HostConfig {
            // No interface but loopback, and no name server but PID 1's.
            network_mode: Some("none".to_owned()),
            dns: Some(vec!["127.0.0.1".to_owned()]),
            dns_options: Some(Vec::new()),
            dns_search: Some(vec![".".to_owned()]),
            // PID 1 takes ports 53, 80 and 443 without being root.
            sysctls: Some(HashMap::from([(
                "net.ipv4.ip_unprivileged_port_start".to_owned(),
                "0".to_owned(),
            )])),
            cap_drop: Some(vec!["ALL".to_owned()]),
            security_opt: Some(vec!["no-new-privileges".to_owned(), format!("seccomp={SECCOMP}")]),
            privileged: Some(false),
            readonly_rootfs: Some(true),
            mounts: Some(self.binds.iter().chain(&shared).map(Bind::to_mount).collect()),
            tmpfs: Some(self.temporary()),
            ipc_mode: Some("private".to_owned()),
            shm_size: Some(SHARED_MEMORY),
            memory: bytes(limits.memory.0),
            // Memory and swap together: as much as memory alone, so none.
            memory_swap: bytes(limits.memory.0),
            nano_cpus: Some(i64::from(limits.cpus) * 1_000_000_000),
            pids_limit: Some(limits.pids.into()),
            ulimits: Some(vec![limit("nofile", limits.files.into()), limit("core", 0)]),
            oom_kill_disable: Some(false),
            // What is printed is streamed, not kept.
            log_config: Some(HostConfigLogConfig { typ: Some("none".to_owned()), config: None }),
            restart_policy: Some(RestartPolicy {
                name: Some(RestartPolicyNameEnum::NO),
                maximum_retry_count: None,
            }),
            init: Some(false),
            runtime: Some(self.runtime.to_owned()),
            ..HostConfig::default()
        }
    }

    /// Folders in memory. They stand in for the image's volumes too, which would be folders of the host without
    /// a bound.
    fn temporary(&self) -> HashMap<String, String> {
        let (user, group) = self.user;
        let size = self.limits.temporary.0;
        let options = format!("rw,exec,nosuid,nodev,size={size},uid={user},gid={group},mode=0700");
        // A volume in the place of the workspace is overridden by the workspace.
        let volumes = self.volumes.iter().map(String::as_str).filter(|volume| *volume != WORKSPACE);
        TEMPORARY.into_iter().chain(volumes).map(|folder| (folder.to_owned(), options.clone())).collect()
    }

    fn invocation(&self) -> Invocation {
        let volumes = self.volumes.iter().map(String::as_str);
        let writable =
            TEMPORARY.into_iter().chain(["/dev"]).chain(self.writes.then_some(WORKSPACE)).chain(volumes);
        let env = environment(self.inside).map(|(name, value)| format!("{name}={value}").into());
        Invocation {
            env: env.collect(),
            writable: writable.map(Into::into).collect(),
            mounts: self.held.parts().iter().map(|held| mounts::place(held.part()).into()).collect(),
            dir: WORKSPACE.into(),
            command: self.argv.iter().map(Into::into).collect(),
        }
    }
}

/// The whole environment of a command: of two variables of one name the later one holds. Nothing of the caller's own is
/// in it.
fn environment(inside: &Inside) -> impl Iterator<Item = (&str, String)> {
    let local = "localhost,127.0.0.1,::1";
    let fixed = [
        ("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
        ("HOME", HOME),
        ("USER", "sandbox"),
        ("LANG", "C.UTF-8"),
        ("TMPDIR", "/tmp"),
        ("no_proxy", local),
        ("NO_PROXY", local),
    ];
    let terminal = inside.terminal.map(|_| ("TERM", TERM.to_owned()));
    let own = inside.variables.iter().map(|(name, value)| (name.as_str(), value.clone()));
    let fixed = fixed.into_iter().map(|(name, value)| (name, value.to_owned()));
    let proxy = format!("http://127.0.0.1:{PROXY_PORT}");
    own.chain(fixed)
        .chain(terminal)
        .chain(egress::proxy::environment(Some(&proxy), inside.authority.as_ref().map(|_| TRUSTED)))
}

fn limit(name: &str, value: i64) -> ResourcesUlimits {
    ResourcesUlimits { name: Some(name.to_owned()), soft: Some(value), hard: Some(value) }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Calls that reach beyond the container, or into another process.
    const BEYOND: &str = "ptrace process_vm_readv process_vm_writev pidfd_getfd kcmp io_uring_setup io_uring_enter \
        io_uring_register bpf perf_event_open userfaultfd keyctl add_key request_key mount umount2 \
        pivot_root chroot move_mount open_tree fsopen unshare setns clone3 open_by_handle_at \
        name_to_handle_at init_module finit_module kexec_load reboot swapon settimeofday clock_settime \
        acct quotactl syslog vhangup sethostname iopl ioperm modify_ldt fanotify_init lookup_dcookie \
        nfsservctl";

    #[test]
    fn the_profile_allows_no_call_that_reaches_beyond_the_container() {
        let profile: serde_json::Value = serde_json::from_str(SECCOMP).unwrap();
        assert_eq!(profile["defaultAction"], "SCMP_ACT_ERRNO");
        let groups = profile["syscalls"].as_array().unwrap();
        assert!(groups.iter().all(|group| group["comment"].as_str().is_some_and(|reason| reason.len() > 20)));
        let allowed: BTreeSet<&str> = groups
            .iter()
            .filter(|group| group["action"] == "SCMP_ACT_ALLOW")
            .flat_map(|group| group["names"].as_array().unwrap())
            .map(|name| name.as_str().unwrap())
            .collect();
        for call in BEYOND.split_whitespace() {
            assert!(!allowed.contains(call), "{call}");
        }
        // Sockets of every kind are named one by one.
        let sockets = groups.iter().filter(|group| group["names"] == serde_json::json!(["socket"]));
        assert!(sockets.clone().count() > 0 && sockets.into_iter().all(|group| group["args"].is_array()));
    }
}

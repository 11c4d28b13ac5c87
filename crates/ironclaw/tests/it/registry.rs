//! A real registry on this machine, and small images to put into it.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use crate::engine::ask;

/// Debian's registry on a free port, with a folder of its own. Dropped, it has ended, and the engine has none of its images.
pub(crate) struct Registry {
    /// `127.0.0.1:PORT`.
    pub(crate) at: String,
    folder: tempfile::TempDir,
    program: Child,
    log: Arc<Mutex<Vec<String>>>,
}

/// What a registry for its own users is told of them. Nobody has the password.
const USERS: &str = "nobody:$2y$05$abcdefghijklmnopqrstuuO0S1hIIq8Pu0S0wI9u0b3i3kq0y6bO2\n";

impl Registry {
    /// One for everybody.
    pub(crate) fn open() -> Self {
        Self::start("")
    }

    /// One that wants to know who asks.
    pub(crate) fn closed() -> Self {
        Self::start("auth: {htpasswd: {realm: tests, path: USERS}}\n")
    }

    #[allow(clippy::disallowed_methods, reason = "the registry is a process")]
    fn start(more: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let users = folder.path().join("users");
        std::fs::write(&users, USERS).unwrap();
        let config = format!(
            "version: 0.1\nlog: {{level: info}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: \"127.0.0.1:0\"}}\n{}",
            folder.path().join("kept").display(),
            more.replace("USERS", users.to_str().unwrap())
        );
        std::fs::write(folder.path().join("config.yml"), config).unwrap();
        let mut program = Command::new("docker-registry")
            .arg("serve")
            .arg(folder.path().join("config.yml"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("docker-registry is missing: scripts/install-test-needs");
        let mut lines = BufReader::new(program.stderr.take().unwrap()).lines().map_while(Result::ok);
        let at = lines.find_map(|line| {
            let (_, place) = line.split_once("listening on ")?;
            Some(place.split('"').next()?.to_owned())
        });
        let log: Arc<Mutex<Vec<String>>> = Arc::default();
        let kept = log.clone();
        std::thread::spawn(move || lines.for_each(|line| kept.lock().unwrap().push(line)));
        Self { at: at.expect("the registry did not start"), folder, program, log }
    }

    /// How often it was asked for a manifest or a layer.
    pub(crate) fn asked(&self) -> usize {
        self.log.lock().unwrap().iter().filter(|line| line.contains("http.request.uri=\"/v2/")).count()
    }

    /// Puts an image of the engine's there, takes it from the engine, and gives the digest of its manifest.
    pub(crate) fn push(&self, id: &str, repository: &str, tag: &str) -> String {
        let name = format!("{}/{repository}", self.at);
        ask("POST", &format!("/images/{id}/tag"), &[("repo", &name), ("tag", tag)], &[]).ok();
        let steps = ask("POST", &format!("/images/{name}/push"), &[("tag", tag)], &[]).lines();
        let digest = steps.iter().find_map(|step| step["aux"]["Digest"].as_str()).unwrap().to_owned();
        ask("DELETE", &format!("/images/{name}:{tag}"), &[], &[]).ok();
        digest
    }

    /// Where the bytes of a digest lie.
    pub(crate) fn blob(&self, digest: &str) -> std::path::PathBuf {
        let hex = digest.strip_prefix("sha256:").unwrap();
        self.folder.path().join("kept/docker/registry/v2/blobs/sha256").join(&hex[..2]).join(hex).join("data")
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.program.kill();
        let _ = self.program.wait();
        let filter = format!("{{\"reference\":[\"{}/*\",\"{}/*/*\"]}}", self.at, self.at);
        let found = ask("GET", "/images/json", &[("filters", &filter)], &[]).json();
        for image in found.as_array().unwrap() {
            let id = image["Id"].as_str().unwrap();
            // One may be of another test's, too, which has it under a name of its own.
            let _ = ask("DELETE", &format!("/images/{id}"), &[("force", "1")], &[]);
        }
    }
}

/// The label of images that tests make, which have no name.
pub(crate) const SMALL: &str = "org.ironclaw.test";

/// Makes an image of BusyBox and one file in the engine; gives its digest. `says` is what it says of itself, in the words
/// of a Dockerfile.
pub(crate) fn small_image(mark: &str, says: &[&str]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let bin = folder.path().join("bin");
    std::fs::create_dir(&bin).unwrap();
    std::fs::copy("/bin/busybox", bin.join("busybox"))
        .expect("busybox is missing: scripts/install-test-needs");
    for name in ["sh", "env", "id", "pwd", "cat", "true", "ls", "sort"] {
        std::os::unix::fs::symlink("busybox", bin.join(name)).unwrap();
    }
    std::fs::write(folder.path().join("mark"), mark).unwrap();
    let mut query = vec![("fromSrc", "-")];
    let label = format!("LABEL {SMALL}=1");
    query.push(("changes", &label));
    query.extend(says.iter().map(|says| ("changes", *says)));
    let steps = ask("POST", "/images/create", &query, &archive(folder.path())).lines();
    steps.last().unwrap()["status"].as_str().unwrap().to_owned()
}

/// The same, which says that it is made for another processor.
pub(crate) fn foreign_image(mark: &str) -> String {
    let id = small_image(mark, &[]);
    let saved = ask("GET", &format!("/images/{id}/get"), &[], &[]);
    assert_eq!(saved.status, 200);
    let folder = tempfile::tempdir().unwrap();
    unpack(folder.path(), &saved.bytes);
    let config = folder.path().join(format!("{}.json", id.strip_prefix("sha256:").unwrap()));
    let mut said: serde_json::Value = serde_json::from_slice(&std::fs::read(&config).unwrap()).unwrap();
    said["architecture"] = "mips64le".into();
    std::fs::write(&config, said.to_string()).unwrap();
    let loaded = ask("POST", "/images/load", &[("quiet", "1")], &archive(folder.path())).lines();
    let said = loaded.last().unwrap()["stream"].as_str().unwrap();
    said.rsplit_once(' ').unwrap().1.trim().to_owned()
}

#[allow(clippy::disallowed_methods, reason = "tar is a process")]
fn unpack(folder: &Path, bytes: &[u8]) {
    let mut tar = Command::new("tar").arg("-x").arg("-C").arg(folder).stdin(Stdio::piped()).spawn().unwrap();
    std::io::Write::write_all(&mut tar.stdin.take().unwrap(), bytes).unwrap();
    assert!(tar.wait().unwrap().success());
}

#[allow(clippy::disallowed_methods, reason = "tar is a process")]
fn archive(folder: &Path) -> Vec<u8> {
    let made =
        Command::new("tar").args(["--numeric-owner", "-c", "-C"]).arg(folder).arg(".").output().unwrap();
    assert!(made.status.success(), "{made:?}");
    made.stdout
}

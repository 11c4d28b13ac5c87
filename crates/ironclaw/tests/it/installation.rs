//! An installation in a temporary folder, driven through the command line alone.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use egress::loopback::{Loopback, Reply};
use http::Request;
use serde_json::Value;
use types::{CallId, Digest, Host};

/// What a command came to.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ran {
    /// The JSON lines of standard output.
    pub(crate) fn json(&self) -> Vec<Value> {
        self.stdout.lines().map(|line| serde_json::from_str(line).expect(line)).collect()
    }

    /// The rules of the refusals of a turn.
    pub(crate) fn refused_by(&self) -> Vec<String> {
        let turn = &self.json()[0];
        let refusals = turn["refusals"].as_array().unwrap();
        refusals.iter().map(|refusal| refusal["refused"].as_str().unwrap().to_owned()).collect()
    }

    #[track_caller]
    pub(crate) fn ok(self) -> Self {
        assert_eq!(self.code, 0, "{self:#?}");
        self
    }
}

/// A random installation: its own hosts, names, keys and wording.
pub(crate) struct Installation {
    pub(crate) folder: tempfile::TempDir,
    exceptions: String,
}

impl Installation {
    pub(crate) fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), exceptions: String::new() }
    }

    /// With a vault in a key file.
    pub(crate) fn initialised() -> Self {
        let new = Self::new();
        new.run(&["init", "--slot", "file"]).ok();
        new
    }

    pub(crate) fn home(&self) -> PathBuf {
        self.folder.path().join("home")
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Ran {
        self.run_with(arguments, "")
    }

    /// Runs the binary with that standard input, in an environment that holds nothing of the tester's.
    pub(crate) fn run_with(&self, arguments: &[&str], input: &str) -> Ran {
        self.run_under(&["env"], arguments, input)
    }

    /// The same under a command that ends by running its arguments.
    pub(crate) fn run_under(&self, command: &[&str], arguments: &[&str], input: &str) -> Ran {
        let mut child = self.start_under(command, arguments);
        // A command that reads no input may be gone before it is written.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        let output = child.wait_with_output().unwrap();
        Ran {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// Starts it, with pipes to all three of its streams.
    #[allow(clippy::disallowed_methods, reason = "the program under test is a process")]
    pub(crate) fn start_under(&self, command: &[&str], arguments: &[&str]) -> Child {
        Command::new(command[0])
            .args(&command[1..])
            .arg(env!("CARGO_BIN_EXE_ironclaw"))
            .arg("--home")
            .arg(self.home())
            .args(arguments)
            .env_clear()
            .env("HOME", self.folder.path())
            .env("PATH", "/usr/bin:/bin")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    }

    /// Starts a service and tells the installation that its name leads to it.
    pub(crate) async fn service(
        &mut self,
        host: &str,
        answer: impl Fn(Request<bytes::Bytes>) -> Reply + Send + Sync + 'static,
    ) -> Loopback {
        let server = Loopback::https(&Host::parse(host).unwrap(), answer).await.unwrap();
        let config = self.home().join("config");
        std::fs::create_dir_all(&config).unwrap();
        private(&self.home());
        private(&config);
        std::fs::write(config.join(format!("{host}.pem")), server.ca_pem().unwrap()).unwrap();
        self.exceptions += &format!(
            "[[egress.exception]]\nhost = \"{host}\"\nport = 443\naddress = \"{}\"\nca = \"{host}.pem\"\n",
            server.addr()
        );
        self.configure("");
        server
    }

    /// Lets commands in containers reach the services that were started.
    pub(crate) fn open_to_containers(&mut self) {
        self.exceptions = self.exceptions.replace("ca = ", "containers = true\nca = ");
        self.configure("");
    }

    /// Writes the configuration: what is given, and where the services are.
    pub(crate) fn configure(&self, text: &str) {
        let config = self.home().join("config");
        std::fs::create_dir_all(&config).unwrap();
        private(&self.home());
        private(&config);
        std::fs::write(config.join("config.toml"), format!("{text}\n{}", self.exceptions)).unwrap();
    }

    /// Installs one of the guests under another name, with its manifest changed.
    pub(crate) fn install(&self, guest: &str, change: impl Fn(String) -> String) {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../guests").join(guest);
        let folder = self.folder.path().join("source").join(random("tool"));
        std::fs::create_dir_all(&folder).unwrap();
        let manifest = std::fs::read_to_string(source.join("manifest.toml")).unwrap();
        std::fs::write(folder.join("manifest.toml"), change(manifest)).unwrap();
        let component = format!("{guest}.wasm");
        std::fs::copy(source.join(&component), folder.join(&component)).unwrap();
        self.run(&["tool", "install", folder.to_str().unwrap(), "--yes"]).ok();
    }

    /// Every byte of every file of the installation.
    pub(crate) fn everything_on_disk(&self) -> Vec<u8> {
        let mut all = Vec::new();
        let mut folders = vec![self.home()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                match path.is_dir() {
                    true => folders.push(path),
                    false => all.extend(std::fs::read(path).unwrap()),
                }
            }
        }
        all
    }
}

/// A word that no test and no rule has seen before.
pub(crate) fn random(prefix: &str) -> String {
    format!("{prefix}{}", &Digest::of(CallId::new().as_bytes()).to_string()[..12])
}

/// A key like those that services give out.
pub(crate) fn random_key() -> String {
    Digest::of(CallId::new().as_bytes()).to_string()[..40].to_owned()
}

fn private(folder: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o700)).unwrap();
}

//! Why an engine cannot hold what is promised, and the command that mends it.

use std::path::Path;

use crate::config::Downgrade;
use crate::runc::HOLES;

/// Why commands cannot be confined on this machine now. No variant quotes foreign text but versions and names, cut to
/// a plain alphabet.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Unfit {
    /// Containers are Linux.
    #[error("commands are confined on Linux only")]
    NotLinux,
    /// Nothing listens on the engine's socket.
    #[error("Docker Engine does not answer on {0}")]
    NoEngine(String),
    /// Something listens and does not let this user in.
    #[error("Docker Engine on {0} does not let you in")]
    Denied(String),
    /// The engine answers with errors.
    #[error("Docker Engine does not do what it is asked ({0})")]
    Broken(&'static str),
    /// The engine cannot filter system calls.
    #[error("Docker Engine has no seccomp, so system calls cannot be filtered")]
    NoSeccomp,
    /// The configured runtime is not one of the engine's.
    #[error("Docker Engine knows no runtime {0}")]
    NoRuntime(String),
    /// A runtime with known holes.
    #[error("runc {0} has known holes ({HOLES})")]
    VulnerableRuntime(String),
    /// A distribution's runtime.
    #[error("runc {0} is a distribution's: its number does not tell whether {HOLES} are closed in it")]
    UnverifiableRuntime(String),
    /// A runtime of which nothing is known but its name.
    #[error(
        "Docker Engine does not tell what {0} is, so whether it has known holes ({HOLES}, or its own) cannot be told"
    )]
    UnknownRuntime(String),
    /// No image was made or chosen.
    #[error("there is no image to run commands in yet")]
    NoImage,
    /// The engine does not have the image that was chosen.
    #[error("Docker Engine does not have the image {0}")]
    ImageGone(String),
    /// An image that is not named by its digest can change under its name.
    #[error("the image {0} is not named by a digest (sha256:...), so it could change under its name")]
    ImageNotPinned(String),
    /// The image is of another processor or system than this program.
    #[error("the image {0} is not made for linux/{arch}", arch = crate::image::architecture())]
    OtherPlatform(String),
}

impl Unfit {
    /// What mends it: a command, or where the owner may accept it, as an alternative, the lines of the configuration file
    /// `config` that do.
    pub fn mend(&self, config: &Path) -> String {
        // What has known holes is not for accepting.
        let accepted = self.downgrade().filter(|downgrade| *downgrade == Downgrade::UnverifiableRuntime);
        let accept = accepted.map(|downgrade| {
            format!(
                "; or, if you know that they are closed in it, accept it with these lines in {}:\n    [sandbox]\n    downgrades = [\"{}\"]",
                config.display(),
                downgrade.as_str()
            )
        });
        self.remedy() + &accept.unwrap_or_default()
    }

    /// The command that takes it out of the world.
    pub fn remedy(&self) -> String {
        match self {
            Self::NotLinux => "use a Linux machine or virtual machine".to_owned(),
            Self::NoEngine(_) => "sudo apt-get install docker.io && sudo systemctl start docker".to_owned(),
            Self::Denied(_) => {
                "sudo usermod -aG docker \"$USER\", and log in again (members of that group are as root)"
                    .to_owned()
            }
            Self::Broken(_) => "docker info, and the engine's own log".to_owned(),
            Self::NoSeccomp => {
                "install an engine and a kernel with seccomp: docker info --format '{{.SecurityOptions}}'"
                    .to_owned()
            }
            Self::NoRuntime(_) => {
                "docker info --format '{{json .Runtimes}}', then: ironclaw config explain sandbox.runtime"
                    .to_owned()
            }
            Self::VulnerableRuntime(_) => "install runc 1.2.8, 1.3.3 or newer".to_owned(),
            Self::UnverifiableRuntime(_) => "install runc 1.2.8, 1.3.3 or newer from upstream".to_owned(),
            Self::UnknownRuntime(_) => "use runc 1.2.8, 1.3.3 or newer, or runsc".to_owned(),
            Self::NoImage => "ironclaw sandbox build-image".to_owned(),
            Self::ImageGone(_) => {
                "ironclaw sandbox build-image; or, for one of your own, --from NAME".to_owned()
            }
            Self::ImageNotPinned(name) => {
                format!("take image out of [sandbox], then: ironclaw sandbox build-image --from {name}")
            }
            Self::OtherPlatform(_) => {
                "choose another tag or digest of it: ironclaw sandbox build-image --from NAME".to_owned()
            }
        }
    }

    /// The downgrade that accepts it, if one may.
    pub(crate) fn downgrade(&self) -> Option<Downgrade> {
        match self {
            Self::VulnerableRuntime(_) => Some(Downgrade::VulnerableRuntime),
            Self::UnverifiableRuntime(_) | Self::UnknownRuntime(_) => Some(Downgrade::UnverifiableRuntime),
            _ => None,
        }
    }
}

/// What is plain in a foreign word: enough for a version or a name.
pub(crate) fn plain(word: &str) -> String {
    let kept =
        |c: &char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | '+' | '~' | ':' | '/' | '@');
    word.chars().filter(kept).take(128).collect()
}

/// What is plain in a foreign sentence, on one line.
pub(crate) fn sentence(words: &str) -> String {
    let kept = |c: char| if c.is_ascii_graphic() || c == ' ' { c } else { ' ' };
    words.chars().map(kept).take(300).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_accepted_is_told_with_the_lines_and_the_file() {
        let file = Path::new("/home/a/config.toml");
        let mend = Unfit::UnverifiableRuntime("1.1.5".to_owned()).mend(file);
        let lines = "/home/a/config.toml:\n    [sandbox]\n    downgrades = [\"unverifiable-runtime\"]";
        assert!(mend.starts_with("install runc") && mend.ends_with(lines), "{mend}");
        for other in [Unfit::VulnerableRuntime("1.0.0".to_owned()), Unfit::NoImage] {
            assert_eq!(other.mend(file), other.remedy());
        }
    }
}

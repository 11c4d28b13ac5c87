//! The folder that one command is lent: locked, checked and held open before, compared with what it was after.

use std::path::{Path, PathBuf};

use types::{Command, Confinement, Refusal};
use workspace::{Held, Loan, SafeFolder, Surroundings, Survey, UnsafeFolder};

use crate::container::{RunError, failed};
use crate::rules;

/// The folder of a run, which is nobody else's until this is dropped.
#[derive(Debug)]
pub(crate) struct Ground {
    folder: SafeFolder,
    /// What some program obeyed in it before; none where the command changes nothing.
    survey: Option<Survey>,
}

impl Ground {
    /// Lends a command its folder. Walks through all of it, so it is for a thread that may wait.
    pub(crate) fn lend(command: &Command, around: &Surroundings) -> Result<(Self, Held), RunError> {
        let loan = match command.confinement {
            Confinement::WorkspaceWrite => Loan::Exclusive,
            Confinement::ReadOnly => Loan::Shared,
            Confinement::FullAccess => {
                return Err(Refusal::new(&rules::UNFIT, "full access is no access of a container").into());
            }
        };
        let folder = SafeFolder::lend(&command.workspace, around, loan).map_err(refusal)?;
        // The decision names a folder without links; a link that stands there now was put there since.
        if folder.path() != command.workspace {
            return Err(refusal(UnsafeFolder::Changed).into());
        }
        let survey = (loan == Loan::Exclusive).then(|| Survey::of(&folder)).transpose().map_err(refusal)?;
        let held = Held::open(&folder, survey.as_ref()).map_err(refusal)?;
        Ok((Self { folder, survey }, held))
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn folder(&self) -> &SafeFolder {
        &self.folder
    }

    /// Whether the command may change it.
    pub(crate) fn is_written(&self) -> bool {
        self.survey.is_some()
    }

    /// Moves what is new and would be obeyed into a folder `quarantine` of the workspace. Only once nothing of the run
    /// lives on.
    pub(crate) fn settle(&self, quarantine: &str) -> Result<Vec<PathBuf>, RunError> {
        let moved = self.survey.iter().map(|survey| survey.settle(&self.folder, quarantine)).next();
        moved
            .unwrap_or_else(|| Ok(Vec::new()))
            .map_err(failed("what the command left in the workspace cannot be put away"))
    }
}

fn refusal(fault: UnsafeFolder) -> Refusal {
    let rule = match fault {
        UnsafeFolder::Busy => &rules::BUSY,
        UnsafeFolder::Changed => &rules::SWAPPED,
        _ => &rules::WORKSPACE,
    };
    let widen = match fault {
        UnsafeFolder::Busy => {
            "wait until that command has ended, or choose another folder with --workspace DIR"
        }
        UnsafeFolder::Changed => "end what changes the workspace, and try again",
        _ => "choose another folder with --workspace DIR",
    };
    Refusal::new(rule, fault.to_string()).widened_by(widen)
}

/// Does what walks through a whole folder where waiting holds up nothing else.
pub(crate) async fn waiting<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, RunError> + Send + 'static,
) -> Result<T, RunError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|_| Err(RunError::Failed("looking through the workspace failed".to_owned())))
}

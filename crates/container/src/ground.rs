//! The folder that one command is lent: locked, checked and held open before, compared with what it was after.

use std::path::Path;
use std::time::Duration;

use policy::Settlement;
use types::{Command, Confinement, Refusal};
use workspace::{Fingerprint, Held, Loan, SafeFolder, Surroundings, Survey, UnsafeFolder};

use crate::container::{RunError, failed};
use crate::note::{Content, Note, Notes};
use crate::quarantine::Quarantine;
use crate::rules;
use crate::sweep::quarantine_name;

/// How long comparing a workspace with what it was may take. A command that made more names than can be looked at in
/// this time, some tens of millions, keeps its workspace from every later one until a person has looked.
pub(crate) const SETTLE_TIME: Duration = Duration::from_secs(120);

/// The folder of a run: that of nobody else where the command changes it, until this is dropped.
#[derive(Debug)]
pub(crate) struct Ground {
    folder: SafeFolder,
    /// What some program obeyed in it before; none where the command changes nothing.
    survey: Option<Survey>,
    note: Note,
    content: Content,
}

impl Ground {
    /// What the note of a run says before anything of it is known but the decision.
    pub(crate) fn claim(
        command: &Command,
        container: &str,
        settlement: &Settlement,
    ) -> Result<Content, RunError> {
        let writes = match command.confinement {
            Confinement::WorkspaceWrite => true,
            Confinement::ReadOnly => false,
            Confinement::FullAccess => {
                return Err(Refusal::new(&rules::UNFIT, "full access is no access of a container").into());
            }
        };
        let line = Fingerprint::line(&command.workspace).map_err(|_| refusal(UnsafeFolder::NotAFolder))?;
        Ok(Content {
            container: container.to_owned(),
            of: settlement.of().get(),
            turn: settlement.turn(),
            workspace: command.workspace.clone(),
            line,
            writes,
            survey: None,
        })
    }

    /// Lends a command its folder, which its note claims. Walks through all of it, so it is for a thread that may wait.
    pub(crate) fn lend(
        command: &Command,
        around: &Surroundings,
        note: Note,
        content: Content,
    ) -> Result<(Self, Held), RunError> {
        let loan = if content.writes { Loan::Exclusive } else { Loan::Shared };
        let folder = SafeFolder::lend(&command.workspace, around, loan).map_err(refusal)?;
        // The decision names a folder without links; a link that stands there now was put there since.
        let fingerprint = folder.fingerprint().map_err(failed("the workspace cannot be identified"))?;
        if folder.path() != command.workspace || Some(fingerprint) != content.fingerprint() {
            return Err(refusal(UnsafeFolder::Changed).into());
        }
        let survey = (loan == Loan::Exclusive).then(|| Survey::of(&folder)).transpose().map_err(refusal)?;
        let held = Held::open(&folder, survey.as_ref()).map_err(refusal)?;
        Ok((Self { folder, survey, note, content }, held))
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

    /// Writes down what has to be known to put the folder in order should this process not live to do it. Before the
    /// command may start.
    pub(crate) async fn noted(mut self, notes: Notes) -> Result<Self, RunError> {
        waiting(move || {
            self.content.survey = self.survey.clone();
            let written = notes.rewrite(&mut self.note, &self.content);
            written.map_err(failed("the note of the run cannot be written"))?;
            Ok(self)
        })
        .await
    }

    /// Moves what is new and would be obeyed into a folder of the workspace. Only once nothing of the run lives on.
    pub(crate) async fn settled(self) -> Result<(Quarantine, Self), RunError> {
        waiting(move || {
            let Some(survey) = &self.survey else { return Ok((Quarantine::default(), self)) };
            let folder = quarantine_name();
            let moved = survey.settle(&self.folder, &folder, SETTLE_TIME);
            let moved = moved.map_err(failed("what the command left in the workspace cannot be put away"))?;
            Ok((Quarantine { folder, moved }, self))
        })
        .await
    }

    /// Lets the folder go: nothing has to be put in order in it any more.
    pub(crate) fn forget(self) -> Result<(), RunError> {
        self.note.erase().map_err(failed("the note of the run cannot be removed"))
    }
}

pub(crate) fn refusal(fault: UnsafeFolder) -> Refusal {
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
        UnsafeFolder::Special(_) => "remove it, or choose another folder with --workspace DIR",
        UnsafeFolder::Mounted(_) => "unmount it, or choose another folder with --workspace DIR",
        UnsafeFolder::InObeyed { .. } => "choose the folder around it with --workspace DIR",
        UnsafeFolder::NotText(_) => "rename it, or choose another folder with --workspace DIR",
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

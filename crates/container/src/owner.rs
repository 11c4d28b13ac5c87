//! Whom a command runs as.

use types::Refusal;
use workspace::SafeFolder;

use crate::container::{RunError, failed};
use crate::rules;

/// Whom a command runs as when nobody else offers: no user of any distribution.
const NOBODY: u32 = 65_532;

/// Whom the command runs as: the owner of the workspace, so that what it makes there is theirs; never root.
pub(crate) fn user_for(folder: &SafeFolder, writes: bool) -> Result<(u32, u32), RunError> {
    let (owner, group) = folder.owner().map_err(failed("the workspace cannot be read"))?;
    let me = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    let refused =
        |why: &str, widen: String| Err(Refusal::new(&rules::WORKSPACE, why).widened_by(widen).into());
    let shown = folder.path().display();
    match (me.0, owner) {
        (0, 0) if writes => refused(
            "it belongs to root, and no command runs as root",
            format!("give it to another user: chown -R {NOBODY}:{NOBODY} '{shown}'"),
        ),
        (0, 0) => Ok((NOBODY, NOBODY)),
        (0, owner) => Ok((owner, if group == 0 { owner } else { group })),
        (mine, owner) if writes && mine != owner => refused(
            "it belongs to another user",
            "choose a folder of your own with --workspace DIR".to_owned(),
        ),
        _ => Ok(me),
    }
}

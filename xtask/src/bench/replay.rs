//! How many records the observer decodes and counts: the bench `replay`, as it prints it.

use anyhow::Result;

use super::printed_by;
use crate::workspace::Workspace;

pub fn measure(workspace: &Workspace) -> Result<String> {
    printed_by(workspace, "replay", &[])
}

//! A Gunicorn with a dirty pool: a dirty arbiter and its workers below the master (25 and later).

use anyhow::Result;

use crate::{
    gunicorn::{Builder, GunicornServer},
    matrix::{
        place::Place,
        product::{self, Cell},
    },
    process, wait,
};

/// Its workers of HTTP, and those of the pool.
pub const WORKERS: usize = 1;
pub const DIRTY_WORKERS: usize = 2;

/// How to start it.
pub fn builder() -> Result<Builder> {
    let cell = Cell {
        interpreter: product::interpreter_named("debian-3.11")?,
        gunicorn: "27.0.1",
        class: "sync",
    };
    let builder = Builder::new(Place::find()?.python(&cell)?, "dirty:app").workers(WORKERS);
    let arguments = [
        "--dirty-app",
        "dirty:Work",
        "--dirty-workers",
        &DIRTY_WORKERS.to_string(),
        "--dirty-timeout",
        "4",
    ];
    Ok(arguments.into_iter().fold(builder, Builder::argument))
}

/// The dirty arbiter, once it has all its workers.
pub fn arbiter(server: &GunicornServer) -> Result<u32> {
    wait::until("the dirty pool", || {
        let mut children = server.workers().into_iter();
        Ok(children.find(|&pid| process::children(pid).len() == DIRTY_WORKERS))
    })
}

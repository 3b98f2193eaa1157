//! Gunicorns in roots of their own.

use anyhow::{Result, ensure};
use end_to_end::{
    client::{Request, fetch},
    compare,
    gunicorn::Builder,
    observer::Observer,
    skip,
    venv::Venv,
};

/// Overlay mounts of one image have one interpreter file below them, which the kernel probes once
/// for each attachment.
#[test]
fn containers_of_one_image_share_a_probe_and_are_counted_once() -> Result<()> {
    if skip::privileged()? {
        return Ok(());
    }
    let image = Builder::new(&Venv::debian()?, "raw:app").in_container();
    let servers = [image.start()?, image.start()?];
    let observer = Observer::run()?;
    for server in &servers {
        for _ in 0..5 {
            let answer = fetch(server.port, &Request::get("/hello"))?;
            ensure!(answer.status == 200, "answered {}", answer.status);
        }
    }
    for server in &servers {
        let logged = server.wait_for_access_log(5)?;
        let metrics = observer.wait_for_requests(server.pid(), 5)?;
        compare::workers(&metrics, server, &logged)?;
        compare::nothing_lost(&metrics)?;
        let places = [("program", "datetime_now")];
        let attached = metrics.sum("gunicorn_observer_program_attachments", &places);
        ensure!(attached.to_string() == "1", "attached at {attached} places");
    }
    observer.stop()?;
    Ok(())
}

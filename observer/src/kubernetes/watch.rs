//! Follows the pods of one node, for as long as the observer runs.

use super::{Directory, PodNames};
use anyhow::{Context as _, Result};
use futures_util::{Stream, TryStreamExt as _};
use k8s_openapi::api::core::v1::Pod;
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client, Config};
use std::pin::pin;

/// What whoever follows is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// Pods came, went, or have other containers.
    Changed,
    /// The API server was not reached, or refuses: names stay as they were.
    Failed { why: String, again: bool },
}

/// A client of the cluster that this process runs in, or that `KUBECONFIG` names.
///
/// # Errors
/// When neither tells of a cluster, or what it tells cannot be used.
pub async fn client() -> Result<Client> {
    let config = Config::infer().await.context(
        "cannot find the API server; give the pod a service account, as `kubernetes.enabled` of the \
         chart does, name a file by KUBECONFIG, or leave out --kubernetes",
    )?;
    Client::try_from(config).context("cannot use what is said of the API server")
}

/// Keeps `directory` as the API server has the pods of a node. Ends with the process: what fails is
/// told, and tried again ever more rarely, up to every half minute or so.
pub async fn follow(client: Client, node: &str, directory: Directory, tell: impl FnMut(Told)) {
    let pods: Api<Pod> = Api::all(client);
    let config = watcher::Config::default().fields(&format!("spec.nodeName={node}"));
    let events = watcher::watcher(pods, config).default_backoff();
    take(events, &directory, tell).await;
}

async fn take(
    events: impl Stream<Item = watcher::Result<Event<Pod>>>,
    directory: &Directory,
    mut tell: impl FnMut(Told),
) {
    let mut events = pin!(events);
    let mut listed = Vec::new();
    let mut failed = None;
    loop {
        match events.try_next().await {
            Ok(None) => return,
            Ok(Some(event)) => {
                // A list that is begun has not succeeded yet.
                if apply(event, &mut listed, directory) {
                    failed = None;
                    tell(Told::Changed);
                }
            }
            Err(error) => {
                let why = shown(&error);
                let again = failed.as_ref() == Some(&why);
                failed = Some(why.clone());
                tell(Told::Failed { why, again });
            }
        }
    }
}

/// Whether anything is called otherwise now.
fn apply(event: Event<Pod>, listed: &mut Vec<PodNames>, directory: &Directory) -> bool {
    match event {
        Event::Init => {
            listed.clear();
            false
        }
        Event::InitApply(pod) => {
            listed.extend(PodNames::new(&pod));
            false
        }
        Event::InitDone => {
            directory.replace(std::mem::take(listed));
            true
        }
        Event::Apply(pod) => {
            let pod = PodNames::new(&pod);
            pod.map(|pod| directory.insert(pod)).is_some()
        }
        // A master in it has ended: what it was called is told for as long as its series are.
        Event::Delete(pod) => {
            let pod = PodNames::new(&pod);
            pod.map(|pod| directory.remove(&pod.uid)).is_some()
        }
    }
}

/// What went wrong, and the cure where one is known.
fn shown(error: &watcher::Error) -> String {
    use watcher::Error;
    let said = match error {
        Error::InitialListFailed(kube::Error::Api(said))
        | Error::WatchStartFailed(kube::Error::Api(said))
        | Error::WatchFailed(kube::Error::Api(said))
        | Error::WatchError(said) => said,
        other => return with_causes(other),
    };
    let cure = match said.code {
        401 => "; its token is not taken: is it of this cluster, and still good?",
        403 => {
            "; its service account may not list and watch pods: `kubernetes.enabled` of the chart \
             makes a role for that"
        }
        _ => "",
    };
    format!(
        "the API server answered {}: {}{cure}",
        said.code, said.message
    )
}

fn with_causes(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    let texts: Vec<String> = causes.map(ToString::to_string).collect();
    texts.join(": ")
}

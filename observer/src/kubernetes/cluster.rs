//! The API server of a cluster: its pods of one node, for as long as the observer runs.

use super::{Change, Directory, PodNames};
use anyhow::{Context as _, Result};
use futures_util::{Stream, StreamExt as _};
use k8s_openapi::api::core::v1::Pod;
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client, Config};
use std::future::ready;

/// A client of the API server.
pub struct Cluster(Client);

impl Cluster {
    /// The cluster that this process runs in, or that `KUBECONFIG` names.
    ///
    /// # Errors
    /// When neither names a cluster, or its configuration cannot be used.
    pub async fn connect() -> Result<Self> {
        let config = Config::infer().await.context(
            "cannot find the API server; give the pod a service account, as `kubernetes.enabled` of \
             the chart does, name a file by KUBECONFIG, or leave out --kubernetes",
        )?;
        let client = Client::try_from(config);
        let client = client.context("cannot use the configuration of the API server")?;
        Ok(Self(client))
    }

    /// Keeps `directory` as the API server has the pods of a node, and reports each change. Never
    /// ends: after a failure it asks again, ever more rarely, up to every half minute or so.
    pub fn changes(self, node: &str, directory: Directory) -> impl Stream<Item = Change> + use<> {
        let pods: Api<Pod> = Api::all(self.0);
        let config = watcher::Config::default().fields(&format!("spec.nodeName={node}"));
        changes(watcher::watcher(pods, config).default_backoff(), directory)
    }
}

fn changes(
    events: impl Stream<Item = watcher::Result<Event<Pod>>>,
    directory: Directory,
) -> impl Stream<Item = Change> {
    let mut listed = Vec::new();
    let mut failed = None;
    events.filter_map(move |event| {
        let change = match event {
            Ok(event) => apply(event, &mut listed, &directory).then(|| {
                failed = None;
                Change::Names
            }),
            Err(error) => {
                let why = reason(&error);
                let is_repeated = failed.as_ref() == Some(&why);
                failed = Some(why.clone());
                Some(Change::Failed { why, is_repeated })
            }
        };
        ready(change)
    })
}

/// Takes an event. Whether any name is another now: a list that has begun has not succeeded yet.
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
        // A master in it has exited: the series of the master keep the names that it had.
        Event::Delete(pod) => {
            let pod = PodNames::new(&pod);
            pod.map(|pod| directory.remove(&pod.uid)).is_some()
        }
    }
}

/// Why a request failed, and the fix where one is known.
fn reason(error: &watcher::Error) -> String {
    use watcher::Error;
    let status = match error {
        Error::InitialListFailed(kube::Error::Api(status))
        | Error::WatchStartFailed(kube::Error::Api(status))
        | Error::WatchFailed(kube::Error::Api(status))
        | Error::WatchError(status) => status,
        other => return with_causes(other),
    };
    let fix = match status.code {
        401 => "; the token was refused: is it of this cluster, and still valid?",
        403 => {
            "; the service account may not list and watch pods: set `kubernetes.enabled` of the \
             chart, which makes a role for that"
        }
        _ => "",
    };
    format!(
        "the API server answered {}: {}{fix}",
        status.code, status.message
    )
}

fn with_causes(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    let texts: Vec<String> = causes.map(ToString::to_string).collect();
    texts.join(": ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::stream;

    fn pod(uid: &str, name: &str) -> Pod {
        let mut pod = Pod::default();
        pod.metadata.uid = Some(uid.to_owned());
        pod.metadata.name = Some(name.to_owned());
        pod.metadata.namespace = Some("shop".to_owned());
        pod
    }

    #[tokio::test]
    async fn a_list_changes_names_at_its_end_and_a_failure_that_comes_again_is_repeated() {
        let directory = Directory::default();
        let events = [
            Err(watcher::Error::NoResourceVersion),
            Err(watcher::Error::NoResourceVersion),
            Ok(Event::Init),
            Ok(Event::InitApply(pod("u1", "web-1"))),
            Ok(Event::InitDone),
            Err(watcher::Error::NoResourceVersion),
            Ok(Event::Apply(pod("u2", "web-2"))),
            Ok(Event::Delete(pod("u1", "web-1"))),
        ];
        let changes = changes(stream::iter(events), directory.clone());
        let changes: Vec<_> = changes
            .map(|change| match change {
                Change::Names => "names",
                Change::Failed {
                    is_repeated: false, ..
                } => "failed",
                Change::Failed { .. } => "failed again",
            })
            .collect()
            .await;
        let expected = [
            "failed",
            "failed again",
            "names",
            "failed",
            "names",
            "names",
        ];
        assert_eq!(changes, expected);
        assert_eq!(directory.len(), 1);
        assert_eq!(directory.find("u2", "c").unwrap().name, "web-2");
    }
}

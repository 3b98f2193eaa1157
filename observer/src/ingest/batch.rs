//! Records on their way to the model. Requests, which most of them are, are decoded into memory that is
//! used again, and counted many at a time.

use super::decode;
use observer_model::State;
use observer_model::event::Request;
use observer_model::input::Input;

/// Requests of a batch, at most: all of them fit into a processor's cache.
const MAX_REQUESTS: usize = 512;

/// Requests that are decoded and not yet counted.
#[derive(Debug, Default)]
pub struct Batch {
    /// The first `count` are requests of this batch, others are of former ones.
    requests: Vec<Request>,
    count: usize,
}

impl Batch {
    /// Decodes a record. A request stays in the batch; anything else comes back, to be applied by
    /// [`Self::apply`].
    pub fn decode(&mut self, bytes: &[u8], state: &mut State) -> Option<Input> {
        if self.count == self.requests.len() {
            self.requests.push(Request::default());
        }
        let free = self.requests.get_mut(self.count);
        if !free.is_some_and(|free| decode::renew_request(bytes, free)) {
            return Some(decode::input(bytes));
        }
        self.count += 1;
        if self.count == MAX_REQUESTS {
            self.flush(state);
        }
        None
    }

    /// Applies an input that came after the requests of the batch.
    pub fn apply(&mut self, input: &Input, state: &mut State) {
        if !state.may_overtake_requests(input) {
            self.flush(state);
        }
        state.apply(input);
    }

    /// Counts the requests.
    pub fn flush(&mut self, state: &mut State) {
        state.apply_requests(self.requests.get(..self.count).unwrap_or_default());
        self.count = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ingest::test_records::{ExceptionBytes, RequestBytes, exit, fork, gc};
    use observer_model::Settings;
    use observer_model::fact::{Fact, Master};
    use probe_ebpf::abi::flags;
    use proptest::prelude::*;

    /// A process of two masters, their workers and others.
    fn pid() -> impl Strategy<Value = u32> {
        1..10_u32
    }

    /// The records of something that happens at a time.
    fn records((what, a, b): (u8, u32, u32), time_ns: u64) -> Vec<Vec<u8>> {
        let request = RequestBytes {
            pid: a,
            time_ns,
            times: [
                0,
                0,
                time_ns - 9,
                time_ns - 8,
                time_ns - 7,
                time_ns,
                time_ns,
            ],
            status: 200,
            flags: flags::EXITED,
            line: format!("GET /{} HTTP/1.1\r\n", ["a", "b", "c", "d"][b as usize % 4]).into(),
            ..RequestBytes::default()
        };
        match what {
            0 => vec![fork(time_ns, a, b)],
            1 => vec![exit(time_ns, a, 0)],
            2 => vec![gc(time_ns, u64::from(b))],
            3 => {
                let exception = ExceptionBytes {
                    pid: a,
                    time_ns,
                    request: time_ns - 8,
                    object: 1,
                    has_left: true,
                    class: ["Empty", "shop"],
                    ..ExceptionBytes::default()
                };
                let failed = RequestBytes {
                    status: 500,
                    exceptions: time_ns - 8,
                    ..request
                };
                vec![exception.build(), failed.build()]
            }
            4 => vec![vec![1, 2, 3]],
            _ => vec![request.build()],
        }
    }

    fn state() -> State {
        let mut state = State::new(Settings {
            route_limit: 3,
            ..Settings::default()
        });
        for pid in [1, 2] {
            let fact = Fact::Master(Master {
                pid,
                app: format!("app-{pid}"),
                ..Master::default()
            });
            state.apply(&Input::Fact { time_ns: 1, fact });
            for worker in [3, 5, 7] {
                state.apply(&decode::input(&fork(2, pid, worker + pid - 1)));
            }
        }
        state
    }

    proptest! {
        #[test]
        fn a_batch_gives_the_same_as_one_record_after_the_other(
            steps in prop::collection::vec((0..20_u8, pid(), pid()), 1..60),
        ) {
            let times = (1..).map(|time| time * 1_000_000);
            let records: Vec<_> = steps
                .into_iter()
                .zip(times)
                .flat_map(|(step, time_ns)| records(step, time_ns))
                .collect();
            let (mut each, mut all) = (state(), state());
            let mut batch = Batch::default();
            for record in &records {
                each.apply(&decode::input(record));
                if let Some(input) = batch.decode(record, &mut all) {
                    batch.apply(&input, &mut all);
                }
            }
            batch.flush(&mut all);
            let now_ns = 1_000_000_000;
            prop_assert_eq!(each.metrics_view(now_ns), all.metrics_view(now_ns));
            prop_assert_eq!(each.live_view(now_ns), all.live_view(now_ns));
        }
    }

    #[test]
    fn a_full_batch_is_counted() {
        let (mut state, mut batch) = (state(), Batch::default());
        let request = records((9, 3, 1), 10).remove(0);
        for _ in 0..MAX_REQUESTS + 1 {
            assert_eq!(batch.decode(&request, &mut state), None);
        }
        assert_eq!(state.metrics_view(20).observer.events["request"], 512);
    }
}

use super::*;
use std::ops::Range;

/// The clock is that of the host, which started before the engine.
const START: u64 = 1_000 * SECOND;
const SECOND: u64 = 1_000 * MS;

/// A host as the rhythm sees it; times are since the start of the engine.
#[derive(Default)]
struct Host {
    /// When records are sent; the alarm is pulled by the first one that finds it set.
    records: Vec<u64>,
    /// While a request is in flight.
    in_flight: Range<u64>,
    /// When the engine wakes for a fact of the watcher.
    facts: Vec<u64>,
    /// When a client asks for a view.
    asks: Vec<u64>,
}

/// What the engine did: the times of its wake-ups, the longest time that a record lay in the ring
/// buffer, and the times at which it read the requests in flight.
#[derive(Debug, Default)]
struct Ran {
    woken: Vec<u64>,
    longest_ns: u64,
    reads: Vec<u64>,
}

impl Host {
    /// Runs an engine, from the start until `until_ns`.
    fn run(&self, until_ns: u64) -> Ran {
        let mut rhythm = Rhythm::default();
        let mut ran = Ran::default();
        let (mut has_alarm, mut waiting, mut now) = (false, Vec::<u64>::new(), 0);
        while now <= until_ns {
            ran.woken.push(now);
            if self.asks.contains(&now) {
                rhythm.asked(START + now);
            }
            if rhythm.is_read_due(START + now) {
                ran.reads.push(now);
                rhythm.read(START + now, self.in_flight.contains(&now));
            }
            let oldest_ns = waiting.first().map_or(0, |sent_ns| now - sent_ns);
            ran.longest_ns = ran.longest_ns.max(oldest_ns);
            let has_records = !waiting.is_empty();
            waiting.clear();
            has_alarm |= rhythm.drained(START + now, has_records);
            // Until the next wake-up, whatever its reason.
            let others = self.facts.iter().chain(&self.asks).copied();
            let own = rhythm.next_ns().saturating_sub(START);
            let timers = others.filter(|&at| at > now).chain([own]);
            let mut next = timers.min().unwrap_or(own).max(now + 1);
            for &sent_ns in self.records.iter().filter(|&&at| at > now) {
                if sent_ns > next {
                    break;
                }
                waiting.push(sent_ns);
                if std::mem::take(&mut has_alarm) {
                    next = sent_ns;
                }
            }
            now = next;
        }
        ran
    }
}

fn within(times: &[u64], range: Range<u64>) -> usize {
    times.iter().filter(|at| range.contains(at)).count()
}

#[test]
fn a_quiet_host_without_masters_wakes_every_three_seconds() {
    let ran = Host::default().run(300 * SECOND);
    assert_eq!(within(&ran.woken, SECOND..300 * SECOND), 99, "{ran:?}");
}

#[test]
fn requests_in_flight_are_read_when_the_watcher_sends_its_gauges() {
    let facts: Vec<u64> = (1..50).map(|n| n * 2 * SECOND).collect();
    let host = Host {
        facts: facts.clone(),
        ..Host::default()
    };
    let ran = host.run(99 * SECOND);
    assert_eq!(ran.reads[1..], facts);
    assert_eq!(within(&ran.woken, SECOND..99 * SECOND), facts.len());
}

#[test]
fn the_first_record_after_idle_is_taken_at_once_and_no_other_waits_longer_than_a_poll() {
    let host = Host {
        records: vec![10 * SECOND],
        ..Host::default()
    };
    let ran = host.run(20 * SECOND);
    assert_eq!(ran.longest_ns, 0);
    let after: Vec<u64> = ran
        .woken
        .into_iter()
        .filter(|&at| at > 9 * SECOND)
        .collect();
    // Two polls, and the reads.
    let expected = [10_000, 10_100, 10_200, 11_000, 12_000, 15_000, 18_000].map(|ms| ms * MS);
    assert_eq!(after, expected);

    for every_ms in [1, 7, 90, 110, 150, 250, 990] {
        let records = (1..20_000 / every_ms).map(|n| n * every_ms * MS);
        let host = Host {
            records: records.collect(),
            ..Host::default()
        };
        let ran = host.run(20 * SECOND);
        assert!(ran.longest_ns <= POLL_NS, "{every_ms}: {}", ran.longest_ns);
        let woken = within(&ran.woken, 0..20 * SECOND);
        assert!(woken <= 20 * 20, "{every_ms}: {woken}");
    }
}

#[test]
fn a_record_that_was_about_to_be_sent_when_the_alarm_was_set_is_found_by_the_next_poll() {
    let mut rhythm = Rhythm::default();
    rhythm.read(START, false);
    assert!(rhythm.drained(START, false), "the alarm is set");
    // The record comes without a wake-up.
    let next = rhythm.next_ns();
    assert_eq!(next, START + POLL_NS);
    assert!(!rhythm.drained(next, true));
    assert_eq!(rhythm.next_ns(), next + POLL_NS);
}

#[test]
fn records_that_always_wake_the_engine_make_no_polls() {
    let mut rhythm = Rhythm::default();
    rhythm.read(START, false);
    let _ = rhythm.drained(START, false);
    let _ = rhythm.drained(START + POLL_NS, false);
    assert_eq!(rhythm.next_ns(), START + READ_IDLE_NS);
    assert!(!rhythm.drained(START + SECOND, false));
    assert_eq!(rhythm.next_ns(), START + READ_IDLE_NS);
}

#[test]
fn a_drain_between_polls_is_no_quiet_poll() {
    let mut rhythm = Rhythm::default();
    assert!(!rhythm.drained(SECOND, true));
    for more in 1..100 {
        assert!(!rhythm.drained(SECOND + more * MS, false));
    }
    assert!(rhythm.drained(SECOND + POLL_NS, false));
}

#[test]
fn a_request_that_hangs_is_found_by_the_watchers_next_gauges_and_then_read_every_second() {
    let host = Host {
        in_flight: 11 * SECOND..40 * SECOND,
        facts: (1..50).map(|n| n * 2 * SECOND).collect(),
        ..Host::default()
    };
    let ran = host.run(99 * SECOND);
    let reads = within(&ran.reads, 11 * SECOND..13 * SECOND);
    assert!(reads >= 1, "{ran:?}");
    let hanging = ran.reads.iter().filter(|at| host.in_flight.contains(at));
    let hanging: Vec<u64> = hanging.copied().collect();
    assert!(hanging.windows(2).all(|pair| pair[1] - pair[0] <= READ_NS));
    // Once it is over, every two seconds again.
    assert_eq!(within(&ran.reads, 50 * SECOND..90 * SECOND), 20);
}

#[test]
fn while_a_dashboard_asks_there_is_activity() {
    let mut rhythm = Rhythm::default();
    assert!(!rhythm.is_active(10 * SECOND));
    rhythm.asked(10 * SECOND);
    assert!(rhythm.is_active(11 * SECOND));
    assert!(!rhythm.is_active(12 * SECOND));
    let host = Host {
        asks: vec![10 * SECOND],
        ..Host::default()
    };
    let ran = host.run(100 * SECOND);
    let after = within(&ran.woken, 10 * SECOND + 1..100 * SECOND);
    // Every second twice, then every three.
    assert!(after <= 2 + 30, "{ran:?}");
}

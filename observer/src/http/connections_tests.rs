use super::*;

const ONE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));
const OTHER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 2));

/// One of `peer`, which has said nothing for long enough.
async fn come(connections: &Connections, peer: IpAddr) -> Arc<Connection> {
    let connection = connections.admit(peer).await;
    connection.begins();
    tokio::time::advance(WAITED_ENOUGH).await;
    Arc::new(connection)
}

fn is_cut(connection: &Connection) -> bool {
    locked(&connection.place.phase).is_cut
}

#[tokio::test(start_paused = true)]
async fn the_one_that_waits_for_longest_goes_and_who_is_answered_stays() {
    let connections = Connections::new(3);
    let first = come(&connections, ONE).await;
    let second = come(&connections, ONE).await;
    let third = come(&connections, ONE).await;
    let answer = first.answering();
    let _ = connections.make_room();
    assert!(!is_cut(&first) && is_cut(&second) && !is_cut(&third));
    drop(answer);
    // It waits since just now.
    let _ = connections.make_room();
    assert!(!is_cut(&first) && is_cut(&third));
    assert!(!connections.make_room() && !is_cut(&first));
    tokio::time::advance(WAITED_ENOUGH).await;
    assert!(connections.make_room() && is_cut(&first));
    // It is told, and its place is free.
    first.cut().await;
    drop(first);
    come(&connections, ONE).await;
}

#[tokio::test(start_paused = true)]
async fn a_peer_with_few_connections_keeps_them() {
    let connections = Connections::new(3);
    let lone = come(&connections, ONE).await;
    let many = [
        come(&connections, OTHER).await,
        come(&connections, OTHER).await,
    ];
    let _ = connections.make_room();
    assert!(!is_cut(&lone) && is_cut(&many[0]) && !is_cut(&many[1]));
    let of = |text: &str| network(text.parse().unwrap());
    assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:1:2:3"));
    assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
    assert_eq!(of("::ffff:10.0.0.1"), ONE);
}

#[tokio::test(start_paused = true)]
async fn who_takes_nothing_goes_after_a_moment_if_nobody_waits() {
    let connections = Connections::new(1);
    let only = come(&connections, ONE).await;
    let _answer = only.answering();
    let _ = connections.make_room();
    only.is_blocked();
    let _ = connections.make_room();
    assert!(!is_cut(&only));
    tokio::time::advance(BLOCKED_ENOUGH).await;
    let _ = connections.make_room();
    assert!(is_cut(&only));
}

#[tokio::test(start_paused = true)]
async fn a_peer_is_blocked_from_the_first_byte_it_does_not_take_until_it_took_all() {
    let connections = Connections::new(1);
    let only = come(&connections, ONE).await;
    let limit = Duration::from_secs(5);
    only.is_blocked();
    tokio::time::advance(Duration::from_secs(4)).await;
    only.is_blocked();
    let start = Instant::now();
    only.blocked_for(limit).await;
    assert_eq!(start.elapsed(), Duration::from_secs(1));
    only.is_flushed();
    let more = tokio::time::timeout(limit * 10, only.blocked_for(limit));
    assert!(more.await.is_err());
}

#[tokio::test(start_paused = true)]
async fn who_was_told_to_go_and_is_not_gone_takes_no_place_but_only_as_many_as_stay() {
    let connections = Connections::new(2);
    let mut crowd = Vec::new();
    for _ in 0..4 {
        crowd.push(come(&connections, ONE).await);
    }
    let cut: Vec<_> = crowd.iter().map(|one| is_cut(one)).collect();
    assert_eq!(cut, [true, true, false, false]);
    let next = tokio::time::timeout(Duration::from_millis(10), connections.admit(ONE));
    assert!(next.await.is_err());
    crowd.remove(0);
    come(&connections, ONE).await;
}

#[tokio::test(start_paused = true)]
async fn where_all_are_answered_the_next_one_waits() {
    let connections = Connections::new(1);
    let only = come(&connections, ONE).await;
    let answer = only.answering();
    let bound = Duration::from_secs(60);
    let next = tokio::time::timeout(bound, connections.admit(OTHER));
    assert!(next.await.is_err() && !is_cut(&only) && only.is_crowded());
    drop((answer, only));
    let next = connections.admit(OTHER).await;
    assert!(!next.is_crowded());
    drop(next);
    connections.all_ended().await;
}

#[tokio::test(start_paused = true)]
async fn who_came_just_now_stays_until_it_could_ask() {
    let connections = Connections::new(1);
    let only = connections.admit(ONE).await;
    // Nothing was read of it.
    tokio::time::advance(WAITED_ENOUGH).await;
    assert!(!connections.make_room());
    only.begins();
    assert!(!connections.make_room());
    tokio::time::advance(WAITED_ENOUGH).await;
    assert!(connections.make_room() && is_cut(&only));
}

#[tokio::test(start_paused = true)]
async fn only_so_many_take_nothing_at_a_time() {
    let connections = Connections::new(2 * BLOCKED_LIMIT);
    let mut blocked = Vec::<Arc<Connection>>::new();
    for _ in 0..=BLOCKED_LIMIT {
        assert!(blocked.iter().all(|one| !is_cut(one)));
        let one = come(&connections, ONE).await;
        one.is_blocked();
        blocked.push(one);
    }
    let cut: Vec<_> = blocked.iter().filter(|one| is_cut(one)).collect();
    assert!(cut.len() == 1 && is_cut(&blocked[0]));
}

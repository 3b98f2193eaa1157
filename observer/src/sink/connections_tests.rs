use super::*;

const ONE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));
const OTHER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 2));

/// One of `peer`, come a moment after those before.
async fn come(connections: &Connections, peer: IpAddr) -> Arc<Connection> {
    tokio::time::advance(Duration::from_millis(1)).await;
    Arc::new(connections.admit(peer).await)
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
    connections.make_room();
    assert!(!is_cut(&first) && is_cut(&second) && !is_cut(&third));
    drop(answer);
    // It waits since just now.
    tokio::time::advance(Duration::from_millis(1)).await;
    connections.make_room();
    assert!(!is_cut(&first) && is_cut(&third));
    connections.make_room();
    assert!(is_cut(&first));
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
    connections.make_room();
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
    connections.make_room();
    only.is_blocked();
    connections.make_room();
    assert!(!is_cut(&only));
    tokio::time::advance(BLOCKED_ENOUGH).await;
    connections.make_room();
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
async fn where_all_are_answered_the_next_one_waits() {
    let connections = Connections::new(1);
    let only = come(&connections, ONE).await;
    let answer = only.answering();
    let bound = Duration::from_secs(60);
    let next = tokio::time::timeout(bound, connections.admit(OTHER));
    assert!(next.await.is_err() && !is_cut(&only));
    drop((answer, only));
    connections.admit(OTHER).await;
    connections.all_ended().await;
}

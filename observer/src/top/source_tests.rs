//! A client of a daemon, against a server with scripted responses.

use super::*;
use crate::top::test_views;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::JoinHandle;

const HEAD: &str =
    "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n";

/// Between two attempts to connect.
const PAUSE: Duration = Duration::from_millis(10);

fn daemon(port: u16) -> Daemon {
    format!("http://127.0.0.1:{port}").parse().unwrap()
}

/// Answers each connection with the next of these responses, and returns the heads of the requests.
fn serve(listener: TcpListener, answers: Vec<String>) -> JoinHandle<Vec<String>> {
    std::thread::spawn(move || {
        let answer = |answer: String| {
            let (mut stream, _) = listener.accept().unwrap();
            let asked = head(&mut stream);
            stream.write_all(answer.as_bytes()).unwrap();
            asked
        };
        answers.into_iter().map(answer).collect()
    })
}

fn head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).unwrap();
        head.extend(byte);
    }
    String::from_utf8(head).unwrap().to_lowercase()
}

fn event(name: &str, id: &str, data: &impl serde::Serialize) -> String {
    let data = serde_json::to_string(data).unwrap();
    format!("event: {name}\nid: {id}\ndata: {data}\n\n")
}

fn next(updates: &Receiver<Update>) -> Update {
    updates.recv_timeout(Duration::from_secs(20)).unwrap()
}

#[test]
fn a_stream_that_ends_is_continued_from_the_last_view() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let history = event("history", "", &test_views::history());
    let view = event("snapshot", "17.5", &test_views::view());
    let first = format!("{HEAD}retry: 500\n\n{history}event: later\ndata: x\n\n{view}");
    let second = format!("{HEAD}{view}");
    let served = serve(listener, vec![first, second]);
    let (sender, updates) = sync_channel(16);
    connect_every(
        PAUSE,
        &daemon(port),
        Credentials::read(None).unwrap(),
        sender,
    )
    .unwrap();
    assert!(matches!(next(&updates), Update::History(_)));
    for _ in 0..2 {
        let Update::View(view) = next(&updates) else {
            panic!("not a view");
        };
        assert_eq!(*view, test_views::view());
    }
    let asked = served.join().unwrap();
    assert!(asked[0].starts_with("get /api/v1/events "), "{asked:?}");
    assert!(!asked[0].contains("last-event-id"), "{asked:?}");
    assert!(asked[1].contains("last-event-id: 17.5\r\n"), "{asked:?}");
    // The server is gone.
    assert!(matches!(next(&updates), Update::Lost(why) if why.contains("refused")));
    assert!(matches!(next(&updates), Update::Lost(_)));
}

#[test]
fn a_first_connection_that_fails_names_the_fix() {
    let refused = |answer: Option<&str>| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let served = answer.map(|answer| serve(listener, vec![answer.to_owned()]));
        let error = connect(
            &daemon(port),
            Credentials::read(None).unwrap(),
            sync_channel(1).0,
        )
        .unwrap_err();
        if let Some(served) = served {
            served.join().unwrap();
        }
        format!("{error:#}")
    };
    let fix = "start `gunicorn-observer run` with --listen at this address";
    let said = refused(None);
    assert!(
        said.starts_with("cannot connect to http://127.0.0.1:"),
        "{said}"
    );
    assert!(said.contains(fix), "{said}");
    let said = refused(Some("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"));
    assert!(said.contains("HTTP 404") && said.contains(fix), "{said}");
    let said = refused(Some("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"));
    assert!(said.contains("no events"), "{said}");
    let said = refused(Some("HTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n"));
    assert!(
        said.contains("authentication required") && said.contains("--http-config"),
        "{said}"
    );
}

#[test]
fn an_unreadable_view_is_reported_and_tried_again() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let wrong = format!("{HEAD}event: snapshot\ndata: {{\"apps\":7}}\n\n");
    let view = format!("{HEAD}{}", event("snapshot", "1", &test_views::view()));
    let served = serve(listener, vec![wrong, view]);
    let (sender, updates) = sync_channel(16);
    connect_every(
        PAUSE,
        &daemon(port),
        Credentials::read(None).unwrap(),
        sender,
    )
    .unwrap();
    assert!(matches!(next(&updates), Update::Lost(why) if why.contains("another version")));
    assert!(matches!(next(&updates), Update::View(_)));
    served.join().unwrap();
}

#[test]
fn a_daemon_has_a_url_and_is_local_if_that_is_of_this_host() {
    let local = |text: &str| text.parse::<Daemon>().map(|it| it.is_local);
    for text in [
        "http://127.0.0.1:9918",
        "http://[::1]:9918/",
        "http://localhost",
        "http://127.9.9.9:1",
    ] {
        assert_eq!(local(text), Ok(true), "{text}");
    }
    for text in [
        "http://10.0.0.1:9918",
        "http://example.org",
        "http://localhost.example.org:1",
    ] {
        assert_eq!(local(text), Ok(false), "{text}");
    }
    for text in [
        "",
        "127.0.0.1:9918",
        "localhost",
        "ftp://a",
        "http://",
        "http://a/b",
        "http://a?b",
        "http://a b",
    ] {
        let error = text.parse::<Daemon>().unwrap_err();
        assert!(error.contains("such as http://127.0.0.1:9918"), "{text}");
    }
    assert_eq!(local("https://127.0.0.1:9918"), Ok(true));
    assert_eq!("http://h:1/".parse::<Daemon>().unwrap().url, "http://h:1");
}

#[tokio::test(start_paused = true)]
async fn a_view_waits_for_room_on_the_screen_and_is_not_lost() {
    let (sender, updates) = sync_channel(1);
    let view = || Arc::new(test_views::view());
    assert!(hand_over(view(), &sender).await);
    let waiting = tokio::spawn(async move { hand_over(view(), &sender).await });
    tokio::time::sleep(10 * READY_EVERY).await;
    assert!(!waiting.is_finished());
    for _ in 0..2 {
        tokio::time::sleep(2 * READY_EVERY).await;
        assert!(matches!(updates.try_recv(), Ok(Update::View(_))));
    }
    assert!(waiting.await.unwrap());
}

#[tokio::test]
async fn a_view_for_a_screen_that_is_gone_ends_the_handing_over() {
    let (sender, updates) = sync_channel(1);
    drop(updates);
    assert!(!hand_over(Arc::new(test_views::view()), &sender).await);
}

use super::*;
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpSocket;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// A server on a free port, with an engine that knows nothing.
struct Served {
    address: SocketAddr,
    ready: watch::Sender<bool>,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Served {
    async fn start() -> Self {
        Self::start_within(Limits::default()).await
    }

    async fn start_within(limits: Limits) -> Self {
        Self::start_for(limits, Web::open(None).unwrap()).await
    }

    async fn start_for(limits: Limits, web: Web) -> Self {
        let (ready, is_ready) = watch::channel(false);
        let (source, mut asked) = Source::new(is_ready);
        tokio::spawn(async move {
            let state = observer_model::State::new(observer_model::Settings::default());
            while let Some(ask) = asked.recv().await {
                ask.answer(&state, 0);
            }
        });
        let endpoints = Endpoints {
            source,
            label: WorkerLabel::Pid,
            app_metrics: None,
        };
        let listener = bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        let shutdown = async move {
            let _ = stopped.await;
        };
        let task = tokio::spawn(serve_within(limits, listener, web, endpoints, shutdown));
        Self {
            address,
            ready,
            stop,
            task,
        }
    }

    async fn ask(&self, request: &str) -> String {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let request = format!("{request}Host: h\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut response = String::new();
        stream.read_to_string(&mut response).await.unwrap();
        response
    }

    async fn get(&self, path: &str) -> String {
        self.ask(&format!("GET {path} HTTP/1.1\r\n")).await
    }
}

#[tokio::test]
async fn every_endpoint_answers_and_no_other_path_or_method_does() {
    let served = Served::start().await;
    let metrics = served.get("/metrics").await;
    assert!(metrics.contains("text/plain; version=0.0.4"), "{metrics}");
    assert!(metrics.contains("\ngunicorn_observer_events_total{kind=\"request\"} 0\n"));
    let accept = "GET /metrics HTTP/1.1\r\nAccept: application/openmetrics-text\r\n";
    let metrics = served.ask(accept).await;
    assert!(metrics.contains("application/openmetrics-text") && metrics.ends_with("# EOF\n"));
    assert!(served.get("/api/v1/snapshot").await.contains("\"apps\":[]"));
    assert!(served.get("/").await.contains("<h1>"));
    assert!(served.get("/healthz").await.starts_with("HTTP/1.1 200"));
    assert!(served.get("/nothing").await.starts_with("HTTP/1.1 404"));
    // Nobody asked for it.
    assert!(served.get("/app-metrics").await.starts_with("HTTP/1.1 404"));
    assert!(served.get("/metrics/").await.starts_with("HTTP/1.1 404"));
    assert!(
        served
            .ask("POST /metrics HTTP/1.1\r\n")
            .await
            .starts_with("HTTP/1.1 405")
    );
    assert!(
        served
            .ask("DELETE / HTTP/1.1\r\n")
            .await
            .starts_with("HTTP/1.1 405")
    );
}

#[tokio::test]
async fn the_server_is_ready_once_the_probes_are_attached() {
    let served = Served::start().await;
    assert!(served.get("/readyz").await.starts_with("HTTP/1.1 503"));
    served.ready.send(true).unwrap();
    assert!(served.get("/readyz").await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn the_server_shuts_down_in_spite_of_an_idle_client() {
    let served = Served::start().await;
    let _idle = TcpStream::connect(served.address).await.unwrap();
    served.get("/healthz").await;
    served.stop.send(()).unwrap();
    tokio::time::timeout(Duration::from_secs(5), served.task)
        .await
        .unwrap()
        .unwrap();
    assert!(TcpStream::connect(served.address).await.is_err());
}

#[tokio::test]
async fn clients_that_do_not_read_cannot_block_the_server() {
    let limits = Limits {
        connections: 2,
        lifetime: Duration::from_secs(3),
        last_response: Duration::from_millis(100),
        ..Limits::default()
    };
    let served = Served::start_within(limits).await;
    let mut slow = Vec::new();
    for _ in 0..limits.connections {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        let mut stream = socket.connect(served.address).await.unwrap();
        // Requests until nothing can be written; no response is read.
        let requests = "GET / HTTP/1.1\r\nHost: h\r\n\r\n".repeat(1000);
        let stuck = Duration::from_millis(200);
        let mut ask = async || {
            let asked = stream.write_all(requests.as_bytes());
            tokio::time::timeout(stuck, asked).await.is_ok()
        };
        while ask().await {}
        slow.push(stream);
    }
    let answer = tokio::time::timeout(Duration::from_secs(8), served.get("/healthz")).await;
    assert!(answer.is_ok_and(|text| text.starts_with("HTTP/1.1 200")));
}

#[tokio::test]
async fn a_connection_ends_after_its_lifetime() {
    let served = Served::start_within(Limits {
        lifetime: Duration::from_millis(1),
        ..Limits::default()
    })
    .await;
    let mut idle = TcpStream::connect(served.address).await.unwrap();
    let mut answer = String::new();
    let end = tokio::time::timeout(Duration::from_secs(5), idle.read_to_string(&mut answer)).await;
    assert_eq!(end.unwrap().unwrap(), 0);
}

/// The events of a stream, by name and id, until it ends.
async fn follow(served: &Served, head: &str) -> Vec<(String, Option<String>)> {
    let request = format!("GET /api/v1/events HTTP/1.1\r\n{head}");
    let answer = tokio::time::timeout(Duration::from_secs(8), served.ask(&request)).await;
    let answer = answer.unwrap();
    assert!(answer.contains("text/event-stream"), "{answer}");
    let lines = || answer.lines().map(str::trim);
    let mut events = Vec::new();
    for line in lines() {
        if let Some(name) = line.strip_prefix("event: ") {
            events.push((name.to_owned(), None));
        } else if let Some(id) = line.strip_prefix("id: ")
            && let Some((_, last)) = events.last_mut()
        {
            *last = Some(id.to_owned());
        }
    }
    events
}

#[tokio::test(start_paused = true)]
async fn events_are_the_history_then_a_view_each_second_until_the_stream_ends() {
    let served = Served::start_within(Limits {
        stream_lifetime: Duration::from_millis(2500),
        ..Limits::default()
    })
    .await;
    let events = follow(&served, "").await;
    let names: Vec<_> = events.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names.first(), Some(&"history"), "{names:?}");
    assert!((3..=5).contains(&names.len()), "{names:?}");
    assert!(names.iter().skip(1).all(|&name| name == "snapshot"));
    let ids = events.iter().skip(1).map(|(_, id)| id.as_deref());
    assert!(ids.into_iter().all(|id| id == Some("0")), "{events:?}");
    // A client that reconnects, with any last id.
    for last in ["12.5", "NaN", "nonsense"] {
        let events = follow(&served, &format!("Last-Event-ID: {last}\r\n")).await;
        assert_eq!(events[0].0, "history");
    }
}

#[tokio::test]
async fn streams_leave_room_for_other_clients() {
    let served = Served::start_within(Limits {
        streams: 1,
        ..Limits::default()
    })
    .await;
    let mut first = TcpStream::connect(served.address).await.unwrap();
    let ask = "GET /api/v1/events HTTP/1.1\r\nHost: h\r\n\r\n";
    first.write_all(ask.as_bytes()).await.unwrap();
    assert_eq!(first.read_u8().await.unwrap(), b'H');
    let second = served.get("/api/v1/events").await;
    assert!(second.starts_with("HTTP/1.1 503"), "{second}");
    assert!(served.get("/metrics").await.starts_with("HTTP/1.1 200"));
    // The shutdown ends the stream, and does not wait for the client.
    served.stop.send(()).unwrap();
    let end = tokio::time::timeout(DRAIN_TIMEOUT / 2, served.task).await;
    end.unwrap().unwrap();
}

#[tokio::test]
async fn without_an_engine_there_is_no_view() {
    let (source, requests) = Source::new(watch::channel(true).1);
    drop(requests);
    assert!(source.metrics_view().await.is_none());
}

#[tokio::test]
async fn an_address_in_use_is_named_with_the_fix() {
    let first = bind("127.0.0.1:0").await.unwrap();
    let address = first.local_addr().unwrap().to_string();
    let error = bind(&address).await.unwrap_err().to_string();
    assert!(
        error.contains(&address) && error.contains("--listen"),
        "{error}"
    );
}

#[tokio::test]
async fn any_number_of_idle_clients_leaves_room_for_a_request() {
    let limits = Limits {
        connections: 4,
        ..Limits::default()
    };
    let served = Served::start_within(limits).await;
    let mut idle = Vec::new();
    for number in 0..100 {
        let mut stream = TcpStream::connect(served.address).await.unwrap();
        if number % 2 == 0 {
            let _ = stream.write_all(b"GET /metrics HT").await;
        }
        idle.push(stream);
    }
    let answer = tokio::time::timeout(Duration::from_secs(5), served.get("/metrics")).await;
    assert!(answer.unwrap().starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn a_long_or_invalid_head_is_refused_and_an_unfinished_one_is_closed() {
    let served = Served::start_within(Limits {
        head: Duration::from_millis(200),
        ..Limits::default()
    })
    .await;
    let long = format!("GET / HTTP/1.1\r\nA: {}\r\n", "a".repeat(HEAD_BYTES));
    let mut stream = TcpStream::connect(served.address).await.unwrap();
    stream.write_all(long.as_bytes()).await.unwrap();
    let mut status = [0; 12];
    stream.read_exact(&mut status).await.unwrap();
    assert_eq!(&status, b"HTTP/1.1 431");
    let answer = served.ask("\x16\x03\x01 no request\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
    let mut slow = TcpStream::connect(served.address).await.unwrap();
    slow.write_all(b"GET /metr").await.unwrap();
    let mut rest = String::new();
    let end = tokio::time::timeout(Duration::from_secs(5), slow.read_to_string(&mut rest)).await;
    assert!(end.unwrap().is_ok() && !rest.contains(" 200 "), "{rest}");
}

#[tokio::test]
async fn a_client_that_does_not_read_its_response_is_closed_in_time() {
    let served = Served::start_within(Limits {
        write: Duration::from_millis(300),
        ..Limits::default()
    })
    .await;
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut stream = socket.connect(served.address).await.unwrap();
    let requests = "GET / HTTP/1.1\r\nHost: h\r\n\r\n".repeat(1000);
    // Until the server reads no more, and then closes the connection.
    let cut = async { while stream.write_all(requests.as_bytes()).await.is_ok() {} };
    tokio::time::timeout(Duration::from_secs(10), cut)
        .await
        .unwrap();
}

#[path = "server_web_tests.rs"]
mod web;

//! The Cilium agent's API: HTTP/1.1 over its unix socket, paths under `/v1` in, bodies out.
//!
//! What answers is not trusted: a body is bounded, and so is the time for an answer. One connection serves question after question; when
//! it breaks the next question opens another.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ::http::header::{ACCEPT, HOST};
use ::http::{Request, StatusCode};
use bytes::Bytes;
use http_body_util::{BodyExt, Empty, LengthLimitError, Limited};
use hyper::client::conn::http1::{Builder, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::task::JoinHandle;

use crate::platform::local_socket;

/// Bounds of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ApiLimits {
    /// The largest body. Default: 32 MiB, an ip cache of 150,000 addresses.
    pub body_bytes: usize,
    /// For connecting, asking and the whole answer. Default: 15 s.
    pub timeout: Duration,
}

impl Default for ApiLimits {
    fn default() -> Self {
        Self {
            body_bytes: 32 << 20,
            timeout: Duration::from_secs(15),
        }
    }
}

/// Why a question has no answer.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// The socket cannot be reached.
    #[error("{}", explain(socket, source))]
    Connect {
        /// The socket.
        socket: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The connection broke, or what came is no HTTP.
    #[error("GET {path}: {source}")]
    Http {
        /// What was asked.
        path: String,
        /// What went wrong.
        source: hyper::Error,
    },
    /// The answer is not 200.
    #[error("GET {path}: the agent answers {status}")]
    Status {
        /// What was asked.
        path: String,
        /// The answer.
        status: StatusCode,
    },
    /// The body is larger than [`ApiLimits::body_bytes`].
    #[error("GET {path}: the answer is larger than {limit} bytes")]
    TooLarge {
        /// What was asked.
        path: String,
        /// The bound.
        limit: usize,
    },
    /// There was no whole answer in [`ApiLimits::timeout`].
    #[error("GET {path}: no answer within {} s", .after.as_secs_f32())]
    Timeout {
        /// What was asked.
        path: String,
        /// The bound.
        after: Duration,
    },
    /// The body is not the JSON that was to be expected.
    #[error("GET {path}: {source}")]
    Json {
        /// What was asked.
        path: String,
        /// What is wrong with it.
        source: serde_json::Error,
    },
}

impl ApiError {
    /// Nobody answers, at least now.
    #[must_use]
    pub fn is_away(&self) -> bool {
        matches!(
            self,
            Self::Connect { .. } | Self::Http { .. } | Self::Timeout { .. }
        )
    }

    /// Whether the same question may soon be answered: nobody listens, or the agent is busy. An answer that makes no sense stays so.
    #[must_use]
    pub fn may_pass(&self) -> bool {
        let busy = |status: &StatusCode| {
            status.is_server_error() || *status == StatusCode::TOO_MANY_REQUESTS
        };
        self.is_away() || matches!(self, Self::Status { status, .. } if busy(status))
    }
}

fn explain(socket: &Path, error: &std::io::Error) -> String {
    match error.kind() {
        ErrorKind::NotFound => format!("no API socket at {}", socket.display()),
        _ => local_socket::explain(socket, error, "the Cilium agent"),
    }
}

/// Asks the agent.
#[derive(Debug)]
pub struct AgentApi {
    socket: PathBuf,
    limits: ApiLimits,
    connection: Option<Connection>,
}

#[derive(Debug)]
struct Connection {
    sender: SendRequest<Empty<Bytes>>,
    task: JoinHandle<()>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl AgentApi {
    /// Connects when it is first asked.
    #[must_use]
    pub fn new(socket: PathBuf, limits: ApiLimits) -> Self {
        Self {
            socket,
            limits,
            connection: None,
        }
    }

    /// The body of `GET /v1/{path}`. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// There is no answer, or none that is good.
    pub async fn get(&mut self, path: &str) -> Result<Bytes, ApiError> {
        let limit = self.limits.timeout;
        let answer = tokio::time::timeout(limit, self.ask(path)).await;
        let answer = answer.unwrap_or_else(|_| {
            Err(ApiError::Timeout {
                path: path.to_owned(),
                after: limit,
            })
        });
        if answer.is_err() {
            self.connection = None;
        }
        answer
    }

    /// [`AgentApi::get`], read as JSON.
    ///
    /// # Errors
    /// There is no answer, or none that is good.
    pub async fn read<T: serde::de::DeserializeOwned>(
        &mut self,
        path: &str,
    ) -> Result<T, ApiError> {
        let body = self.get(path).await?;
        serde_json::from_slice(&body).map_err(|source| ApiError::Json {
            path: path.to_owned(),
            source,
        })
    }

    async fn ask(&mut self, path: &str) -> Result<Bytes, ApiError> {
        let http = |source| ApiError::Http {
            path: path.to_owned(),
            source,
        };
        // The agent closes what is idle for long: then a new connection is made.
        let ready = match &mut self.connection {
            Some(connection) => connection.sender.ready().await.is_ok(),
            None => false,
        };
        if !ready {
            self.connection = None;
        }
        let connection = match &mut self.connection {
            Some(connection) => connection,
            none => none.insert(connect(&self.socket, path).await?),
        };
        let request = Request::get(format!("/v1/{path}"))
            .header(HOST, "localhost")
            .header(ACCEPT, "application/json")
            .body(Empty::new());
        // Our own paths make a valid request.
        let Ok(request) = request else {
            return Err(ApiError::Status {
                path: path.to_owned(),
                status: StatusCode::BAD_REQUEST,
            });
        };
        let response = connection
            .sender
            .send_request(request)
            .await
            .map_err(http)?;
        let status = response.status();
        if status != StatusCode::OK {
            return Err(ApiError::Status {
                path: path.to_owned(),
                status,
            });
        }
        let limit = self.limits.body_bytes;
        let body = Limited::new(response.into_body(), limit).collect().await;
        body.map(http_body_util::Collected::to_bytes)
            .map_err(|error| match error.downcast::<hyper::Error>() {
                Ok(error) => http(*error),
                Err(other) => {
                    debug_assert!(other.is::<LengthLimitError>());
                    ApiError::TooLarge {
                        path: path.to_owned(),
                        limit,
                    }
                }
            })
    }
}

async fn connect(socket: &Path, path: &str) -> Result<Connection, ApiError> {
    let stream = local_socket::Stream::connect(socket)
        .await
        .map_err(|source| ApiError::Connect {
            socket: socket.to_owned(),
            source,
        })?;
    let (sender, connection) = Builder::new()
        .max_headers(64)
        .max_buf_size(64 << 10)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|source| ApiError::Http {
            path: path.to_owned(),
            source,
        })?;
    let task = tokio::spawn(async move {
        // Whoever asks is told of a broken connection.
        let _broken = connection.await;
    });
    Ok(Connection { sender, task })
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::UnixListener;

    use super::*;

    fn limits() -> ApiLimits {
        ApiLimits {
            body_bytes: 1000,
            timeout: Duration::from_secs(20),
        }
    }

    /// Answers each connection with the next of these bytes, and then closes it.
    fn agent(folder: &Path, answers: Vec<String>) -> PathBuf {
        let socket = folder.join("cilium.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        tokio::spawn(async move {
            for answer in answers {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut question = vec![0; 4096];
                let _length = stream.read(&mut question).await.unwrap();
                assert!(question.starts_with(b"GET /v1/ip HTTP/1.1\r\n"));
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
            std::future::pending::<()>().await;
        });
        socket
    }

    fn ok(body: &str) -> String {
        format!(
            "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
    }

    #[tokio::test]
    async fn every_way_to_fail_is_told_in_a_line_and_the_next_question_is_asked_anew() {
        let folder = tempfile::tempdir().unwrap();
        let answers = vec![
            ok("[1]"),
            ok("["),
            ok(&" ".repeat(1001)),
            format!(
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n400\r\n{}\r\n0\r\n\r\n",
                " ".repeat(0x400)
            ),
            "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".to_owned(),
            "HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n".to_owned(),
            "SSH-2.0-x\r\n\r\n".to_owned(),
            "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n[".to_owned(),
            ok("[2]"),
        ];
        let mut api = AgentApi::new(agent(folder.path(), answers), limits());
        let mut said = Vec::new();
        let mut passing = Vec::new();
        for _ in 0..9 {
            match api.read::<Vec<u8>>("ip").await {
                Ok(list) => said.push(format!("{list:?}")),
                Err(error) => {
                    passing.push(error.may_pass());
                    said.push(error.to_string());
                }
            }
        }
        let begins = [
            "[1]",
            "GET ip: EOF while parsing",
            "GET ip: the answer is larger than 1000 bytes",
            "GET ip: the answer is larger than 1000 bytes",
            "GET ip: the agent answers 404 Not Found",
            "GET ip: the agent answers 503 Service Unavailable",
            "GET ip: ",
            "GET ip: ",
            "[2]",
        ];
        for (said, begin) in said.iter().zip(begins) {
            assert!(said.starts_with(begin), "{said}");
        }
        assert_eq!(passing, [false, false, false, false, true, true, true]);
    }

    #[tokio::test]
    async fn a_socket_that_is_not_there_or_never_answers_is_no_answer() {
        let folder = tempfile::tempdir().unwrap();
        let absent = folder.path().join("absent.sock");
        let error = AgentApi::new(absent.clone(), limits())
            .get("ip")
            .await
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("no API socket at {}", absent.display())
        );
        let silent = folder.path().join("silent.sock");
        let _listener = UnixListener::bind(&silent).unwrap();
        let limits = ApiLimits {
            timeout: Duration::from_millis(50),
            ..limits()
        };
        let error = AgentApi::new(silent, limits).get("ip").await.unwrap_err();
        assert_eq!(error.to_string(), "GET ip: no answer within 0.05 s");
    }
}

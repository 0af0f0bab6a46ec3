//! One HTTP/1.1 connection, in the clear or by TLS, on which JSON is posted.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::server::Trouble;

/// An answer that is longer is none of ours.
const BODY_BYTES_MAX: usize = 64 * 1024;

/// A peer that acknowledges nothing for so long is gone.
const UNACKNOWLEDGED_MAX: Duration = Duration::from_secs(3);

/// A connection.
#[derive(Debug)]
pub struct Connection {
    sender: SendRequest<Full<Bytes>>,
    host: HeaderValue,
}

impl Connection {
    /// Connects to a server by its name or address.
    pub async fn open(host: &str, port: u16, tls: Option<&TlsConnector>) -> Result<Self, Trouble> {
        let stream = TcpStream::connect((host, port)).await.map_err(Trouble::new)?;
        stream.set_nodelay(true).map_err(Trouble::new)?;
        let socket = socket2::SockRef::from(&stream);
        socket.set_tcp_user_timeout(Some(UNACKNOWLEDGED_MAX)).map_err(Trouble::new)?;
        let sender = match tls {
            None => driven(stream).await?,
            Some(tls) => {
                let name = ServerName::try_from(host.to_owned()).map_err(Trouble::new)?;
                driven(tls.connect(name, stream).await.map_err(Trouble::new)?).await?
            }
        };
        let name = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
        let host = HeaderValue::from_str(&name).map_err(Trouble::new)?;
        Ok(Self { sender, host })
    }

    /// Whether it was not closed.
    pub fn is_open(&self) -> bool {
        !self.sender.is_closed()
    }

    /// Posts a value, and gives what is answered.
    pub async fn post(
        &mut self,
        path: &'static str,
        token: Option<&HeaderValue>,
        value: &Value,
    ) -> Result<(StatusCode, Value), Trouble> {
        let body = serde_json::to_vec(value).map_err(Trouble::new)?;
        let mut request = Request::new(Full::new(Bytes::from(body)));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = path.try_into().map_err(Trouble::new)?;
        request.headers_mut().insert(HOST, self.host.clone());
        request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(token) = token {
            request.headers_mut().insert(AUTHORIZATION, token.clone());
        }
        self.sender.ready().await.map_err(Trouble::new)?;
        let response = self.sender.send_request(request).await.map_err(Trouble::new)?;
        let status = response.status();
        let body =
            Limited::new(response.into_body(), BODY_BYTES_MAX).collect().await.map_err(Trouble::new)?;
        let value = serde_json::from_slice(&body.to_bytes()).unwrap_or(Value::Null);
        Ok((status, value))
    }
}

/// A thread of its own for the connection is not needed: it is driven by the same one as everything else.
async fn driven<S>(stream: S) -> Result<SendRequest<Full<Bytes>>, Trouble>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) = handshake(TokioIo::new(stream)).await.map_err(Trouble::new)?;
    // Its end is seen by the sender.
    tokio::spawn(async move { drop(connection.await) });
    Ok(sender)
}

/// What speaks TLS to servers that have a certificate of one of those in a file.
pub fn tls(file: &Path) -> Result<TlsConnector> {
    let name = file.display();
    let mend = || format!("cluster.witness_ca names {name}, which can not be read");
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(file).with_context(mend)? {
        roots.add(certificate.with_context(mend)?).with_context(mend)?;
    }
    if roots.is_empty() {
        bail!("cluster.witness_ca names {name}, which has no certificate: it must have PEM blocks");
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

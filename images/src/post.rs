//! One question over HTTPS, through a connection to a SOCKS proxy that the caller has already.
//!
//! It opens no connection, follows no redirection, and reads no more and no longer than it is told. The server is believed by its certificate: by
//! Mozilla's roots, or by one that the caller gives instead.

use crate::{system::Socket, via::Held};
use std::{io::Read, sync::Mutex, time::Duration};
use ureq::{
    Agent,
    tls::{Certificate, RootCerts, TlsConfig},
};

/// A question.
#[derive(Clone, Copy, Debug)]
pub struct Post<'p> {
    /// To whom: an address with `https`.
    pub url: &'p str,
    /// The question, in JSON.
    pub json: &'p [u8],
    /// As whom the proxy is asked, which shares no circuit of tor with anybody else.
    pub user: &'static str,
    /// The certificate (PEM) by which the server is believed, in the place of Mozilla's roots.
    pub root: Option<&'p [u8]>,
    /// How long all of it may take.
    pub patience: Duration,
    /// How many bytes the answer may have.
    pub limit: u64,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum PostError {
    /// The certificate that was given is none.
    #[error("the root certificate is none")]
    Root,
    /// Whoever answered is not who was asked.
    #[error("who answers has not its certificate: {0}")]
    Impostor(String),
    /// Nothing came in time.
    #[error("nothing came within {0} s")]
    Late(u64),
    /// Something else than an answer.
    #[error("it answered with the status {0}")]
    Status(u16),
    /// A longer one than it may be.
    #[error("its answer has more than {0} bytes")]
    Long(u64),
    /// What the connection failed of.
    #[error("the connection failed: {0}")]
    Failed(String),
}

impl Post<'_> {
    /// Asks through `proxy`; the answer's bytes, in which nothing was looked at.
    ///
    /// # Errors
    /// [`PostError`].
    pub fn ask(&self, proxy: Socket) -> Result<Vec<u8>, PostError> {
        let roots = match self.root.map(Certificate::from_pem) {
            None => RootCerts::WebPki,
            Some(Ok(root)) => RootCerts::new_with_certs(&[root]),
            Some(Err(_)) => return Err(PostError::Root),
        };
        let config = Agent::config_builder()
            .https_only(true)
            .proxy(None)
            .tls_config(TlsConfig::builder().root_certs(roots).build())
            .timeout_global(Some(self.patience))
            .max_redirects(0)
            .max_redirects_will_error(false)
            .http_status_as_error(false)
            .user_agent("")
            .build();
        let agent = Held { stream: Mutex::new(Some(proxy)), user: self.user }.agent(config);
        let response = agent.post(self.url).content_type("application/json").send(self.json).map_err(|error| self.failed(error))?;
        if response.status() != 200 {
            return Err(PostError::Status(response.status().as_u16()));
        }
        let mut answer = Vec::new();
        let read = response.into_body().into_reader().take(self.limit + 1).read_to_end(&mut answer);
        read.map_err(|error| self.failed(ureq::Error::from(error)))?;
        if answer.len() as u64 > self.limit { Err(PostError::Long(self.limit)) } else { Ok(answer) }
    }

    fn failed(&self, error: ureq::Error) -> PostError {
        match error {
            ureq::Error::Timeout(_) => PostError::Late(self.patience.as_secs()),
            ureq::Error::Rustls(error) => PostError::Impostor(error.to_string()),
            // The handshake is made with the first bytes.
            ureq::Error::Io(error) if error.get_ref().is_some_and(|inner| inner.to_string().contains("certificate")) => PostError::Impostor(error.to_string()),
            other => PostError::Failed(other.to_string()),
        }
    }
}

//! HTTP calls of the tests.

use reqwest::{Client, RequestBuilder};
use serde_json::Value;
use std::sync::OnceLock;
use std::time::Duration;
use tokio::runtime::Runtime;

/// Longer than the store's timeout, and than a node takes to answer that it had to wait.
const TIMEOUT: Duration = Duration::from_secs(15);

/// An answer, read whole.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) body: Value,
}

impl Reply {
    /// None: no answer, or not all of it.
    pub(crate) async fn of(request: RequestBuilder) -> Option<Self> {
        let response = request.send().await.ok()?;
        let status = response.status().as_u16();
        let bytes = response.bytes().await.ok()?;
        Some(Self { status, body: serde_json::from_slice(&bytes).unwrap_or_default() })
    }

    /// A member of the body that is a text.
    pub(crate) fn text(&self, name: &str) -> String {
        self.body[name].as_str().unwrap_or_else(|| panic!("{name} is missing in {}", self.body)).to_owned()
    }

    /// Whether the answer says that nobody is there: ours with 503, or a proxy's that lost or missed the node.
    pub(crate) fn is_unavailable(&self) -> bool {
        self.status == 503 || (matches!(self.status, 502 | 504) && self.body.is_null())
    }
}

/// What all tests of this process run on.
pub(crate) fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| {
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
    })
}

/// Sends a request from a thread outside the runtime and waits for the answer.
pub(crate) fn ask(request: impl FnOnce(&Client) -> RequestBuilder) -> Option<Reply> {
    static CLIENT: OnceLock<Client> = OnceLock::new();
    let request = request(CLIENT.get_or_init(client));
    runtime().block_on(Reply::of(request))
}

/// A client with connections of its own.
pub(crate) fn client() -> Client {
    Client::builder().timeout(TIMEOUT).no_proxy().build().unwrap()
}

//! rmcp's server half, answered by a [`Backend`].
#![expect(deprecated, reason = "logging/setLevel is accepted from the versions that still have it")]

use std::borrow::Cow;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::http;
use futures_util::FutureExt;
use rmcp::model::{
    CacheScope, CallToolRequestParams, CallToolResponse, CallToolResult, CustomRequest, CustomResult, DiscoverResult,
    ErrorCode, Extensions, GetPromptRequestParams, GetPromptResponse, InitializeRequestParams, InitializeResult,
    ListToolsResult, PaginatedRequestParams, ProtocolVersion, ReadResourceRequestParams, ReadResourceResponse,
    ServerCapabilities, ServerConfig, SetLevelRequestMethod, SetLevelRequestParams, SubscriptionFilter, Tool,
};
use rmcp::service::{NotificationContext, RequestContext, SubscriptionContext};
use rmcp::{ErrorData, RoleServer, ServerHandler};
use serde_json::value::RawValue;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::progress::Relay;
use super::session::Sessions;
use super::wire::{server_info, sign};
use super::{Backend, Caller, Fault, JsonObject, ToolCall, ToolSet, Transport};
use crate::domain::{Name, Principal};
use crate::net::RequestId;

/// How long a client may keep what it was told. Changes are announced, so this only bounds what a client misses that doesn't listen.
const FRESH_MS: u64 = 10_000;

/// Methods that are served, whose parameters rmcp decodes before it calls us. With parameters it can't decode they arrive as custom
/// requests, and must not be called unknown.
const SERVED: [&str; 9] = [
    "server/discover",
    "tools/list",
    "tools/call",
    "prompts/list",
    "prompts/get",
    "resources/list",
    "resources/templates/list",
    "resources/read",
    "subscriptions/listen",
];

/// The same for methods that 2026-07-28 has removed.
const SERVED_BEFORE: [&str; 2] = ["initialize", "logging/setLevel"];

/// Where a handler's requests come from.
pub(super) enum Door {
    /// One byte stream, whose other end is `principal`. `closed` fires with the stream.
    Stream { principal: Box<Principal>, closed: CancellationToken },
    /// HTTP requests, each of which brings its principal.
    Http { sessions: Arc<Sessions> },
}

/// Serves one stdio connection, one HTTP session, or one HTTP request of a version without sessions.
pub(super) struct Handler {
    pub(super) backend: Arc<dyn Backend>,
    pub(super) environment: Option<Name>,
    pub(super) tools: ToolSet,
    pub(super) door: Door,
    /// Fires when the station stops.
    pub(super) stop: CancellationToken,
    /// Whether changes are announced to this legacy peer already.
    pub(super) announcing: AtomicBool,
}

impl Handler {
    fn caller(&self, context: &RequestContext<RoleServer>) -> Result<Caller, ErrorData> {
        let (transport, principal, numbered) = match &self.door {
            Door::Stream { principal, .. } => (Transport::Stdio, Some((**principal).clone()), None),
            Door::Http { .. } => {
                let parts = http_parts(&context.extensions);
                let numbered = parts.and_then(|parts| parts.extensions.get::<RequestId>());
                (Transport::Http, parts.and_then(principal_of), numbered.cloned())
            }
        };
        let principal = principal.ok_or_else(|| ErrorData::internal_error("The request has no principal", None))?;
        let request_id = match numbered {
            Some(numbered) => numbered,
            None => new_request_id()?,
        };
        let version = context.protocol_version().unwrap_or(ProtocolVersion::V_2025_03_26);
        Ok(Caller {
            transport,
            environment: self.environment.clone(),
            principal,
            protocol_version: version.as_str().to_owned(),
            tools: self.tools,
            request_id: request_id.to_string(),
        })
    }

    fn instructions(&self, caller: &Caller) -> Option<String> {
        Some(self.backend.instructions(caller)).filter(|text| !text.is_empty())
    }

    /// Changes from now on.
    fn changes(&self) -> watch::Receiver<u64> {
        let mut changes = self.backend.changes();
        changes.mark_unchanged();
        changes
    }

    /// Fires when the connection that a notification came over is gone.
    fn closed(&self, extensions: &Extensions) -> Option<CancellationToken> {
        match &self.door {
            Door::Stream { closed, .. } => Some(closed.clone()),
            Door::Http { sessions } => sessions.closed(super::session::id_in(&http_parts(extensions)?.headers)?),
        }
    }
}

impl ServerHandler for Handler {
    fn get_info(&self) -> ServerConfig {
        let capabilities = ServerCapabilities::builder()
            .enable_prompts()
            .enable_resources()
            .enable_tools()
            .enable_tool_list_changed()
            .build();
        ServerConfig::new(capabilities).with_server_info(server_info())
    }

    async fn initialize(
        &self,
        request: InitializeRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<InitializeResult, ErrorData> {
        let mut result = self.negotiate_initialize(&request)?;
        context.peer.set_peer_info(request);
        result.instructions = self.instructions(&self.caller(&context)?);
        Ok(result)
    }

    async fn discover(&self, context: RequestContext<RoleServer>) -> Result<DiscoverResult, ErrorData> {
        let mut info = self.get_info();
        info.instructions = self.instructions(&self.caller(&context)?);
        let versions = self.supported_protocol_versions().into_owned();
        let result = DiscoverResult::from_server_info(versions, info);
        Ok(result.with_ttl_ms(FRESH_MS).with_cache_scope(CacheScope::Private))
    }

    async fn list_tools(
        &self,
        request: Option<PaginatedRequestParams>,
        context: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        if let Some(cursor) = request.and_then(|request| request.cursor) {
            return Err(ErrorData::invalid_params(format!("Unknown cursor: {cursor}"), None));
        }
        let caller = self.caller(&context)?;
        let mut tools = answered(&caller, self.backend.list_tools(&caller)).await?;
        tools.sort_by(|a, b| a.name.cmp(&b.name));
        let tools = tools.into_iter().map(Tool::from).collect();
        let mut result =
            ListToolsResult::with_all_items(tools).with_ttl_ms(FRESH_MS).with_cache_scope(CacheScope::Private);
        if is_modern(&context) {
            sign(&mut result.meta);
        } else {
            (result.ttl_ms, result.cache_scope) = (None, None);
        }
        Ok(result)
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let caller = self.caller(&context)?;
        let modern = is_modern(&context);
        let (progress, relay) = context
            .meta
            .get_progress_token()
            .map(|token| Relay::new(context.peer.clone(), token, context.ct.clone()))
            .unzip();
        let call = ToolCall {
            name: request.name.into_owned(),
            arguments: raw_arguments(request.arguments.unwrap_or_default())?,
            meta: context.meta.0.0,
            progress,
            cancel: context.ct,
        };
        let called = answered(&caller, self.backend.call_tool(&caller, call));
        let outcome = match relay {
            Some(relay) => relay.during(called).await,
            None => called.await,
        };
        let mut result = CallToolResult::from(outcome?);
        if modern {
            sign(&mut result.meta);
        }
        Ok(result.into())
    }

    async fn get_prompt(
        &self,
        request: GetPromptRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<GetPromptResponse, ErrorData> {
        Err(ErrorData::invalid_params(format!("Unknown prompt: {}", request.name), None))
    }

    async fn read_resource(
        &self,
        request: ReadResourceRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<ReadResourceResponse, ErrorData> {
        let data = serde_json::json!({ "uri": request.uri });
        Err(ErrorData::resource_not_found("Resource not found", Some(data)))
    }

    /// Accepts any level, because some clients set one unasked. No log message is ever sent: the protocol has deprecated them, and the
    /// capability isn't declared.
    async fn set_level(&self, _: SetLevelRequestParams, context: RequestContext<RoleServer>) -> Result<(), ErrorData> {
        if is_modern(&context) {
            return Err(ErrorData::method_not_found::<SetLevelRequestMethod>());
        }
        Ok(())
    }

    /// Announces changes to a peer of the versions with a handshake, as long as its connection lives.
    async fn on_initialized(&self, context: NotificationContext<RoleServer>) {
        let Some(closed) = self.closed(&context.extensions) else { return };
        if self.announcing.swap(true, Ordering::AcqRel) {
            return;
        }
        let mut changes = self.changes();
        let announce =
            async { while changes.changed().await.is_ok() && context.peer.notify_tool_list_changed().await.is_ok() {} };
        tokio::select! {
            () = closed.cancelled() => {}
            () = self.stop.cancelled() => {}
            () = announce => {}
        }
    }

    fn accepted_subscription_filter(&self, requested: &SubscriptionFilter) -> Option<SubscriptionFilter> {
        Some(requested.intersection(&SubscriptionFilter::builder().tools_list_changed().build()))
    }

    /// Announces changes to a peer of the versions without a handshake, on the stream of its own request.
    async fn listen(&self, context: SubscriptionContext) -> Result<(), ErrorData> {
        let wanted = context.accepted().tools_list_changed == Some(true);
        let mut changes = self.changes();
        let announce = async {
            if !wanted {
                return std::future::pending().await;
            }
            while changes.changed().await.is_ok() && context.sink().notify_tool_list_changed().await.is_ok() {}
        };
        tokio::select! {
            () = context.cancelled() => {}
            () = self.stop.cancelled() => {}
            () = announce => {}
        }
        Ok(())
    }

    async fn on_custom_request(
        &self,
        request: CustomRequest,
        context: RequestContext<RoleServer>,
    ) -> Result<CustomResult, ErrorData> {
        let method = request.method;
        let before = !is_modern(&context) && SERVED_BEFORE.contains(&method.as_str());
        if before || SERVED.contains(&method.as_str()) {
            return Err(ErrorData::invalid_params(format!("The parameters of {method} can't be read"), None));
        }
        Err(ErrorData::new(ErrorCode::METHOD_NOT_FOUND, method, None))
    }

    fn supported_protocol_versions(&self) -> Cow<'static, [ProtocolVersion]> {
        Cow::Borrowed(ProtocolVersion::KNOWN_VERSIONS)
    }
}

/// Whether the request speaks a version without a handshake. Versions are dates, so they compare as text.
fn is_modern(context: &RequestContext<RoleServer>) -> bool {
    context.protocol_version().is_some_and(|version| version.as_str() >= ProtocolVersion::NO_INITIALIZE.as_str())
}

/// Runs the backend so that a panic is answered too. rmcp drops the task of a handler that panics, and its client would wait for ever.
async fn answered<T>(caller: &Caller, work: impl Future<Output = Result<T, Fault>>) -> Result<T, Fault> {
    AssertUnwindSafe(work).catch_unwind().await.unwrap_or_else(|_panic| {
        tracing::error!(request_id = caller.request_id, "a request panicked");
        Err(Fault::Internal(caller.request_id.clone()))
    })
}

fn http_parts(extensions: &Extensions) -> Option<&http::request::Parts> {
    extensions.get()
}

fn principal_of(parts: &http::request::Parts) -> Option<Principal> {
    parts.extensions.get().cloned()
}

fn raw_arguments(arguments: JsonObject) -> Result<Box<RawValue>, ErrorData> {
    serde_json::value::to_raw_value(&arguments)
        .map_err(|error| ErrorData::internal_error(format!("The arguments can't be written: {error}"), None))
}

/// For a request that nobody has given one.
fn new_request_id() -> Result<RequestId, ErrorData> {
    let random = getrandom::u64()
        .map_err(|error| ErrorData::internal_error(format!("The system gives no randomness: {error}"), None))?;
    Ok(RequestId::new(random))
}

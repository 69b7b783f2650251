//! The station's tools as `mcp::serve` asks for them.

use super::listing::{is_listed, is_offered, listing};
use super::outcome::{of_error, of_output};
use crate::domain::Origin;
use crate::error::{Error, Result};
use crate::mcp::serve::{self, Backend, Caller, Fault, ProgressSink, ToolCall, ToolListing, ToolOutcome, Transport};
use crate::tools::model::ProviderVariables;
use crate::tools::{Act, Context, Exposure, Progress, Station, dispatch};
use async_trait::async_trait;
use futures_util::FutureExt;
use serde_json::Value;
use std::pin::pin;
use std::sync::Arc;
use tokio::sync::{mpsc, watch};

/// Reports that wait while the client is slow; further ones are left out.
const PROGRESS_QUEUE: usize = 32;

/// The tools of one station.
pub(in crate::adapters) struct StationBackend {
    station: Arc<Station>,
    /// What a local session brought along, for the runs that it starts.
    variables: Option<Arc<ProviderVariables>>,
    /// The table never changes while the station runs; this only keeps the channel open.
    changes: watch::Sender<u64>,
}

impl StationBackend {
    pub(in crate::adapters) fn shared(
        station: Arc<Station>,
        variables: Option<Arc<ProviderVariables>>,
    ) -> Arc<dyn Backend> {
        Arc::new(Self { station, variables, changes: watch::Sender::new(0) })
    }

    fn context(&self, caller: &Caller, call: &ToolCall) -> Context {
        let mut ctx = Context::new(caller.principal.clone(), origin(caller.transport), caller.request_id.clone());
        ctx.environment.clone_from(&caller.environment);
        ctx.bound = caller.environment.is_some();
        ctx.cancel = call.cancel.clone();
        ctx.caller_meta = Some(Value::Object(call.meta.clone()));
        ctx.provider_variables.clone_from(&self.variables);
        ctx
    }

    async fn act(&self, mut ctx: Context, progress: Option<ProgressSink>, act: Act) -> Result<Value> {
        let (sender, reports) = progress.is_some().then(|| mpsc::channel(PROGRESS_QUEUE)).unzip();
        ctx.progress = sender;
        let answer = relayed(dispatch(&self.station, ctx, act), reports, progress).await;
        answer?.into_value().ok_or_else(|| Error::internal("a tool answered with a subscription"))
    }
}

#[async_trait]
impl Backend for StationBackend {
    async fn list_tools(&self, caller: &Caller) -> Result<Vec<ToolListing>, Fault> {
        let specs =
            self.station.table.iter().map(|tool| &tool.spec).filter(|spec| is_listed(&self.station, spec, caller));
        Ok(specs.map(|spec| listing(spec, caller.environment.is_some())).collect())
    }

    async fn call_tool(&self, caller: &Caller, call: ToolCall) -> Result<ToolOutcome, Fault> {
        let unknown = || Fault::UnknownTool(call.name.clone());
        let spec = self.station.table.get(&call.name).map(|tool| &tool.spec).ok_or_else(unknown)?;
        // What is for people is refused by dispatch, with the reason; anything else that isn't offered is unknown here.
        if spec.exposure != Exposure::PersonOnly && !is_offered(spec, caller.tools) {
            return Err(unknown());
        }
        let arguments =
            serde_json::from_str(call.arguments.get()).map_err(|cause| Fault::InvalidParams(cause.to_string()))?;
        let ctx = self.context(caller, &call);
        let act = Act::Tool { name: call.name, arguments };
        Ok(match self.act(ctx, call.progress, act).await {
            Ok(output) => of_output(spec.name, output),
            Err(error) => of_error(&error, &caller.request_id),
        })
    }

    fn instructions(&self, caller: &Caller) -> String {
        let environment = caller.environment.as_ref().unwrap_or(&self.station.default_environment);
        format!(
            "Station runs AI agents; this connection works in its environment `{environment}`. agent_list shows the agents, agent_run runs one \
             and answers with its output. A run that takes longer goes on by itself: run_wait waits for it, run_get looks at it. agent_create \
             makes a new agent from a prompt; tool_list shows the tools that an agent can be given."
        )
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }
}

const fn origin(transport: Transport) -> Origin {
    match transport {
        Transport::Stdio => Origin::McpStdio,
        Transport::Http => Origin::McpHttp,
    }
}

/// The answer of `act`, with what it reports meanwhile told before it. A client that is slow misses reports; they never hold up the answer.
async fn relayed<T>(
    act: impl Future<Output = T>,
    reports: Option<mpsc::Receiver<Progress>>,
    sink: Option<ProgressSink>,
) -> T {
    let (Some(mut reports), Some(sink)) = (reports, sink) else { return act.await };
    let mut act = pin!(act);
    let answer = loop {
        tokio::select! {
            biased;
            answer = &mut act => break answer,
            Some(report) = reports.recv() => {
                tokio::select! {
                    biased;
                    () = sink.report(told(report)) => {}
                    answer = &mut act => break answer,
                }
            }
        }
    };
    while let Ok(report) = reports.try_recv() {
        if sink.report(told(report)).now_or_never().is_none() {
            break;
        }
    }
    answer
}

fn told(Progress { progress, total, message }: Progress) -> serve::Progress {
    serve::Progress { progress, total, message }
}

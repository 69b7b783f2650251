//! Which columns a list has. A list that is not named here shows every plain field of its items.

/// A heading, and the JSON pointer of what stands below it.
pub(super) type Column = (&'static str, &'static str);

const AGENTS: &[Column] =
    &[("ID", "/id"), ("NAME", "/name"), ("STATE", "/state"), ("MODEL", "/model"), ("DESCRIPTION", "/description")];

const RUNS: &[Column] = &[
    ("ID", "/id"),
    ("AGENT", "/agent/name"),
    ("STATUS", "/status"),
    ("WAITING FOR", "/waiting_for"),
    ("MODEL", "/model/id"),
    ("CREATED", "/created_at"),
    ("TOOK", "/duration_ms"),
    ("CALLED BY", "/parent_run_id"),
];

/// Which try of a step it is.
pub(super) const TRY: &str = "/try";

const STEPS: &[Column] = &[
    ("SEQ", "/seq"),
    ("TRY", TRY),
    ("TURN", "/turn"),
    ("KIND", "/kind"),
    ("STATUS", "/status"),
    ("NAME", "/name"),
    ("ARGUMENTS", "/arguments"),
    ("TOOK", "/duration_ms"),
    ("ERROR", "/error"),
    ("RESULT", "/result"),
];

const REQUESTS: &[Column] = &[
    ("RUN", "/run_id"),
    ("AGENT", "/agent"),
    ("WAITING FOR", "/waiting_for"),
    ("QUESTION", "/question"),
    ("CHOICES", "/choices"),
    ("TOOL", "/tool"),
    ("OPENED", "/opened_at"),
    ("EXPIRES", "/expires_at"),
    ("ANSWER WITH", "/answer_with"),
];

const EVENTS: &[Column] =
    &[("SEQ", "/seq"), ("EPOCH", "/epoch"), ("TYPE", "/type"), ("AT", "/at"), ("STEP", "/data/step/name")];

const ENVIRONMENTS: &[Column] = &[
    ("NAME", "/name"),
    ("DEFAULT", "/default"),
    ("PROVIDER", "/model/provider"),
    ("MODEL", "/model/id"),
    ("REASON", "/model/reason"),
    ("LIVE RUNS", "/live_runs"),
    ("PROBLEM", "/problem"),
];

const SERVERS: &[Column] = &[
    ("NAME", "/name"),
    ("ENVIRONMENT", "/environment"),
    ("TRANSPORT", "/transport"),
    ("STATE", "/state"),
    ("COMMAND", "/command_state"),
    ("TOOLS", "/tools"),
    ("PROBLEM", "/problem"),
];

const TOOLS: &[Column] =
    &[("NAME", "/name"), ("EFFECT", "/effect"), ("TRUSTED", "/effect_trusted"), ("DESCRIPTION", "/description")];

const VARIABLES: &[Column] = &[
    ("NAME", "/name"),
    ("VALUE", "/value"),
    ("SOURCE", "/source"),
    ("IN FILE", "/in_file"),
    ("USED BY", "/used_by"),
    ("PROBLEM", "/problem"),
];

const SECRETS: &[Column] = &[
    ("NAME", "/name"),
    ("VERSION", "/version"),
    ("MASKABLE", "/maskable"),
    ("CREATED", "/created_at"),
    ("UPDATED", "/updated_at"),
];

const USERS: &[Column] =
    &[("ID", "/id"), ("NAME", "/name"), ("STATE", "/state"), ("ROLES", "/roles"), ("DISPLAY NAME", "/display_name")];

const ROLES: &[Column] = &[("ENVIRONMENT", "/environment"), ("ROLE", "/role")];

const API_KEYS: &[Column] = &[
    ("ID", "/id"),
    ("NAME", "/name"),
    ("USER", "/user"),
    ("ROLE", "/role"),
    ("ENVIRONMENTS", "/environments"),
    ("SCOPES", "/scopes"),
    ("EXPIRES", "/expires_at"),
    ("LAST USED", "/last_used_at"),
];

const CONFIG_KEYS: &[Column] = &[
    ("KEY", "/key"),
    ("VALUE", "/value"),
    ("SOURCE", "/source"),
    ("FILE", "/file"),
    ("LINE", "/line"),
    ("VARIABLE", "/variable"),
];

const PLAN: &[Column] = &[
    ("ACTION", "/action"),
    ("KIND", "/kind"),
    ("NAME", "/name"),
    ("FILE", "/file"),
    ("LINE", "/problem/line"),
    ("PROBLEM", "/problem/message"),
];

const PROBLEMS: &[Column] = &[("FILE", "/file"), ("LINE", "/line"), ("PROBLEM", "/message")];

const OWN_TOOLS: &[Column] = &[("NAME", "/name"), ("SCOPE", "/scope"), ("EFFECT", "/effect"), ("TITLE", "/title")];

/// The columns of the list that `name` stands for: a tool, or a field of a tool's output.
pub(super) fn of(name: &str) -> Option<&'static [Column]> {
    Some(match name {
        "agent_list" => AGENTS,
        "run_list" => RUNS,
        "request_list" | "requests" => REQUESTS,
        "run_steps" => STEPS,
        "run_events" => EVENTS,
        "environment_list" | "environments" => ENVIRONMENTS,
        "mcp_server_list" | "mcp_servers" => SERVERS,
        "tool_list" => TOOLS,
        "variable_list" => VARIABLES,
        "secret_list" => SECRETS,
        "user_list" => USERS,
        "roles" => ROLES,
        "api_key_list" => API_KEYS,
        "keys" => CONFIG_KEYS,
        "environment_sync" => PLAN,
        "problems" => PROBLEMS,
        "call" => OWN_TOOLS,
        _ => return None,
    })
}

//! Who may do what: the table in `authorization.csv`, against dispatch. `doors.rs` asks the doors.

use crate::support::station::TestStation;
use serde_json::{Value, json};
use station::domain::{Grant, Name, Principal, Role};
use station::error::ErrorKind;
use station::tools::{self, EnvironmentUse, Exposure, ToolSpec};

/// The table, and what its columns mean: see its first lines.
const AUTHORIZATION: &str = include_str!("authorization.csv");

const HEAD: &str = "tool,viewer,developer,developer_named,operator,admin,elsewhere,mcp";

/// The environments of a new home, each named after its kind, in the order of their numbers.
pub const ENVIRONMENTS: [&str; 3] = ["development", "staging", "production"];

/// A row of the table.
pub struct Row {
    cells: [&'static str; 5],
    pub elsewhere: &'static str,
    pub mcp: &'static str,
}

impl Row {
    /// Whether the role of `column` may use the tool in this environment.
    pub fn allows(&self, column: &str, environment: &str) -> bool {
        let at = HEAD.split(',').skip(1).position(|name| name == column).unwrap();
        self.cells[at].contains(&environment[..1])
    }
}

fn rows() -> impl Iterator<Item = &'static str> {
    let mut lines = AUTHORIZATION.lines().filter(|line| !line.starts_with('#'));
    assert_eq!(lines.next(), Some(HEAD));
    lines
}

/// The row of a tool.
pub fn authorization(tool: &str) -> Row {
    let row = rows().find_map(|line| line.strip_prefix(tool)?.strip_prefix(','));
    let row = row.unwrap_or_else(|| panic!("tests/it/authorization.csv has no row for `{tool}`"));
    let cells: [&str; 7] = row.split(',').collect::<Vec<_>>().try_into().unwrap();
    let [viewer, developer, named, operator, admin, elsewhere, mcp] = cells;
    let cells = [viewer, developer, named, operator, admin];
    let kinds =
        |cell: &str| cell.len() == 3 && cell.chars().zip("dsp".chars()).all(|(is, kind)| is == kind || is == '-');
    assert!(cells.iter().all(|cell| kinds(cell)), "{tool}: a cell is `dsp` with `-` for what isn't allowed: {cells:?}");
    assert!(["allow", "deny", "hide"].contains(&elsewhere) && ["offered", "refused"].contains(&mcp), "{tool}");
    Row { cells, elsewhere, mcp }
}

/// The grants that the columns stand for; one of them names `environment`.
pub fn grants(environment: &str) -> [(&'static str, Grant); 5] {
    [
        ("viewer", Grant::everywhere(Role::Viewer)),
        ("developer", Grant::everywhere(Role::Developer)),
        ("developer_named", Grant::within(Name::new(environment).unwrap(), Role::Developer)),
        ("operator", Grant::everywhere(Role::Operator)),
        ("admin", Grant::everywhere(Role::Admin)),
    ]
}

/// The role, granted in this environment alone.
pub fn granted(role: Role, environment: &str) -> Principal {
    let grant = Grant::within(Name::new(environment).unwrap(), role);
    Principal::new(Principal::local_owner().who, grant)
}

/// An input that gets past authorization and no further: every tool refuses a field that it doesn't have.
pub fn harmless(spec: &ToolSpec, environment: &str) -> Value {
    let mut input = json!({ "no_such_field": 1 });
    match spec.environment {
        EnvironmentUse::None => {}
        // An id names its environment by number.
        EnvironmentUse::OfRun => {
            let number = ENVIRONMENTS.iter().position(|name| *name == environment).unwrap() + 1;
            input["run"] = format!("018f3a3c-0000-800{number}-8000-000000000000").into();
        }
        EnvironmentUse::Required | EnvironmentUse::Optional => input["environment"] = environment.into(),
    }
    input
}

#[test]
fn the_table_names_every_tool_once_in_the_order_of_the_table_of_tools() {
    let named: Vec<&str> = rows().map(|line| line.split(',').next().unwrap()).collect();
    let tools = tools::table();
    assert_eq!(named, tools.names().collect::<Vec<_>>());
    for spec in tools.iter().map(|tool| &tool.spec) {
        let is_refused = authorization(spec.name).mcp == "refused";
        assert_eq!(spec.exposure == Exposure::PersonOnly, is_refused, "{}", spec.name);
    }
}

#[tokio::test]
async fn every_role_may_use_in_every_environment_what_the_table_says() {
    let station = TestStation::open().await;
    let mut wrong = Vec::new();
    for spec in tools::table().iter().map(|tool| &tool.spec) {
        let row = authorization(spec.name);
        for environment in ENVIRONMENTS {
            for (column, grant) in grants(environment) {
                // Nobody is granted the whole station by the name of an environment.
                if spec.environment == EnvironmentUse::None && column == "developer_named" {
                    continue;
                }
                let context = station.context(Principal::new(Principal::local_owner().who, grant));
                let input = harmless(spec, environment);
                let refused = tools::call(&station.app.station, context, spec.name, input).await.unwrap_err();
                let allowed = match refused.kind() {
                    ErrorKind::PermissionDenied => false,
                    ErrorKind::InvalidInput => true,
                    _ => panic!("{} as {column} in {environment}: {refused:?}", spec.name),
                };
                if allowed != row.allows(column, environment) {
                    wrong.push(format!("{} as {column} in {environment}: {refused}", spec.name));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "not as tests/it/authorization.csv says:\n{}", wrong.join("\n"));
}

//! What trees of runs may use, and have used.

use crate::domain::{Budget, Limits, RunId};
use crate::error::Result;
use rusqlite::{Connection, Row};

/// Sums are made in floating point, which overflows into nothing worse than a large number, and is exact up to 9 billion dollars.
const OF_LINEAGE: &str = "
    WITH RECURSIVE
    up (id, parent, depth) AS (
        SELECT id, parent_run_id, 0 FROM runs WHERE id = ?1
        UNION ALL
        SELECT r.id, r.parent_run_id, depth + 1 FROM runs r JOIN up ON r.id = up.parent
    ),
    limited (id, depth) AS (
        SELECT up.id, depth FROM up JOIN runs r ON r.id = up.id
        WHERE r.max_tokens IS NOT NULL OR r.max_cost_microusd IS NOT NULL
    ),
    tree (top, id) AS (
        SELECT id, id FROM limited
        UNION ALL
        SELECT tree.top, r.id FROM runs r JOIN tree ON r.parent_run_id = tree.id
    )
    SELECT t.id, t.agent_name, t.max_tokens, t.max_cost_microusd,
           CAST(total(r.input_tokens + r.output_tokens) AS INTEGER) AS tokens,
           CAST(total(r.cost_microusd) AS INTEGER) AS cost_microusd,
           max(CASE WHEN EXISTS (SELECT 1 FROM steps s WHERE s.run_id = r.id AND s.kind = 'model' AND s.status = 'completed'
                                 AND s.input_tokens IS NULL)
               THEN r.model_provider || '/' || r.model_id END) AS uncounted
    FROM limited l JOIN runs t ON t.id = l.id JOIN tree ON tree.top = l.id JOIN runs r ON r.id = tree.id
    GROUP BY l.id ORDER BY l.depth DESC";

/// Those of the run and of the ones whose calls led to it, the first one first.
pub(super) fn of(conn: &Connection, run: RunId) -> Result<Vec<Budget>> {
    let mut statement = conn.prepare_cached(OF_LINEAGE)?;
    let rows = statement.query_map([run], from_row)?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

fn from_row(row: &Row<'_>) -> rusqlite::Result<Budget> {
    Ok(Budget {
        run: row.get(0)?,
        agent: row.get(1)?,
        limits: Limits { tokens: row.get(2)?, cost_microusd: row.get(3)? },
        tokens: row.get(4)?,
        cost_microusd: row.get(5)?,
        uncounted: row.get(6)?,
    })
}

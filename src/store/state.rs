//! Partition state: snapshots, adoptions, and what recovery reads back.

use rusqlite::{Connection, OptionalExtension, params};

use super::{PartitionCommit, Recovered, Snapshot, StoreError};

/// Writes the adoption and the snapshot of a partition's commit.
pub(super) fn write(conn: &Connection, part: &PartitionCommit) -> Result<(), StoreError> {
    let (topic, partition) = (&*part.topic, part.partition);
    if let Some(label_offset) = part.adoption {
        conn.prepare_cached(
            "INSERT OR REPLACE INTO adoptions(topic, partition, from_offset, label_offset) VALUES (?1, ?2, ?3, ?4)",
        )?
        .execute(params![topic, partition, part.next_offset, label_offset])?;
    }
    if let Some(snapshot) = &part.snapshot {
        assert!(
            snapshot.offset <= part.next_offset,
            "{topic}/{partition}: a snapshot at {} has seen more than is scored, {}",
            snapshot.offset,
            part.next_offset
        );
        write_snapshot(conn, topic, partition, snapshot)?;
    }
    Ok(())
}

fn write_snapshot(conn: &Connection, topic: &str, partition: i32, snapshot: &Snapshot) -> Result<(), StoreError> {
    let plan_hash = snapshot.plan_hash.cast_signed();
    let earlier = conn
        .prepare_cached("SELECT plan_hash FROM snapshots WHERE topic = ?1 AND partition = ?2")?
        .query_row(params![topic, partition], |row| row.get::<_, i64>(0))
        .optional()?;
    if earlier.is_some_and(|earlier| earlier != plan_hash) {
        conn.prepare_cached("DELETE FROM entity_state WHERE topic = ?1 AND partition = ?2")?
            .execute(params![topic, partition])?;
    }
    conn.prepare_cached(
        "INSERT OR REPLACE INTO snapshots(topic, partition, offset, plan_hash) VALUES (?1, ?2, ?3, ?4)",
    )?
    .execute(params![topic, partition, snapshot.offset, plan_hash])?;
    conn.prepare_cached("DELETE FROM partition_state WHERE topic = ?1 AND partition = ?2")?
        .execute(params![topic, partition])?;
    for (name, state) in &snapshot.parts {
        conn.prepare_cached("INSERT INTO partition_state(topic, partition, name, state) VALUES (?1, ?2, ?3, ?4)")?
            .execute(params![topic, partition, name, state])?;
    }
    for (entity, last_seen, state) in &snapshot.entities {
        match state {
            Some(state) => conn
                .prepare_cached(
                    "INSERT INTO entity_state(topic, partition, entity, last_seen, state) VALUES (?1, ?2, ?3, ?4, ?5)
                     ON CONFLICT DO UPDATE SET last_seen = excluded.last_seen, state = excluded.state",
                )?
                .execute(params![topic, partition, entity, last_seen, state])?,
            None => conn
                .prepare_cached("DELETE FROM entity_state WHERE topic = ?1 AND partition = ?2 AND entity = ?3")?
                .execute(params![topic, partition, entity])?,
        };
    }
    // Recovery starts at the snapshot: of what was adopted before, it needs only the version valid there.
    conn.prepare_cached(
        "DELETE FROM adoptions WHERE topic = ?1 AND partition = ?2 AND from_offset <
         (SELECT MAX(from_offset) FROM adoptions WHERE topic = ?1 AND partition = ?2 AND from_offset <= ?3)",
    )?
    .execute(params![topic, partition, snapshot.offset])?;
    Ok(())
}

/// What recovery of a partition starts from; None for a partition that has never been committed.
pub(super) fn load(
    conn: &Connection,
    topic: &str,
    partition: i32,
    plan_hash: u64,
) -> Result<Option<Recovered>, StoreError> {
    let place = params![topic, partition];
    let scored_through = conn
        .prepare_cached("SELECT scored_through FROM offsets WHERE topic = ?1 AND partition = ?2")?
        .query_row(place, |row| row.get(0))
        .optional()?;
    let Some(scored_through) = scored_through else { return Ok(None) };
    let snapshot_offset: Option<i64> = conn
        .prepare_cached("SELECT offset FROM snapshots WHERE topic = ?1 AND partition = ?2 AND plan_hash = ?3")?
        .query_row(params![topic, partition, plan_hash.cast_signed()], |row| row.get(0))
        .optional()?;
    let mut parts = Vec::new();
    let mut entities = Vec::new();
    if snapshot_offset.is_some() {
        let mut statement = conn.prepare_cached(
            "SELECT name, state FROM partition_state WHERE topic = ?1 AND partition = ?2 ORDER BY rowid",
        )?;
        parts = statement.query_map(place, |row| Ok((row.get(0)?, row.get(1)?)))?.collect::<Result<_, _>>()?;
        let mut statement = conn.prepare_cached(
            "SELECT entity, last_seen, state FROM entity_state WHERE topic = ?1 AND partition = ?2
             ORDER BY last_seen, entity",
        )?;
        entities =
            statement.query_map(place, |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?.collect::<Result<_, _>>()?;
    }
    let mut statement = conn.prepare_cached(
        "SELECT from_offset, label_offset FROM adoptions WHERE topic = ?1 AND partition = ?2 ORDER BY from_offset",
    )?;
    let adoptions = statement.query_map(place, |row| Ok((row.get(0)?, row.get(1)?)))?.collect::<Result<_, _>>()?;
    Ok(Some(Recovered { snapshot_offset, scored_through, parts, entities, adoptions }))
}

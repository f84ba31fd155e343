//! What a misspelt name was probably meant to be.

/// The candidate with the fewest edits from `word`, without regard to case, if these are at most a third of its letters. A swap of
/// neighbours is one edit: typing errors are mostly swaps.
#[must_use]
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.to_lowercase();
    let near = word.chars().count().div_ceil(3).max(1);
    let edits = |candidate: &str| strsim::osa_distance(&word, &candidate.to_lowercase());
    let all = candidates.into_iter().map(|candidate| (edits(candidate), candidate));
    all.min_by_key(|(edits, _)| *edits).filter(|(edits, _)| *edits <= near).map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_near() {
        let keys = ["brokers", "events", "latency_ms"];
        assert_eq!(nearest("borkers", keys), Some("brokers"));
        assert_eq!(nearest("Event", keys), Some("events"));
        assert_eq!(nearest("latencyms", keys), Some("latency_ms"));
        assert_eq!(nearest("colour", keys), None);
        assert_eq!(nearest("", keys), None);
        assert_eq!(nearest("events", []), None);
    }
}

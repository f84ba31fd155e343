//! A few numbers for the time of one call: this runs several times for every event, and an allocation costs more than the sums in it.

/// Room for the aggregates and results of most queries.
const ON_STACK_MAX: usize = 32;

/// Calls `f` with `count` numbers, which begin as NULL.
pub(crate) fn with_numbers<T>(count: usize, f: impl FnOnce(&mut [f64]) -> T) -> T {
    if count <= ON_STACK_MAX { f(&mut [f64::NAN; ON_STACK_MAX][..count]) } else { f(&mut vec![f64::NAN; count]) }
}

//! What every engine must do, as tests.
//!
//! An engine implements [`Engine`] for a type that can open (and open again) a store of its own, and
//! names it once: `reseal_store::conformance_tests!(MyEngine);` makes one `#[test]` of each case. Cases
//! know nothing but the [`Store`] trait and the faults that the engine lets them cause.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
#![allow(missing_docs, reason = "the name of a case says what it demands")]

pub mod challenges;
pub mod clients;
pub mod endings;
pub mod events;
pub mod faults;
pub mod keys;
pub mod lists;
pub mod races;
mod samples;
pub mod sessions;
pub mod starts;
pub mod sweeps;
pub mod users;

pub use samples::*;

use crate::Store;
use std::future::Future;
use std::sync::Arc;

/// A way to open one engine on data of its own.
pub trait Engine: Send + Sync + 'static {
    /// The engine's store.
    type Store: Store;

    /// A place without data.
    fn create() -> Self;

    /// Opens the store there; also after an earlier one was dropped, on its data.
    fn open(&self) -> impl Future<Output = Self::Store> + Send;

    /// Breaks something, or mends it; `false`: this engine cannot break so.
    fn inject(&self, store: &Self::Store, fault: Fault) -> impl Future<Output = bool> + Send;
}

/// What breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// The disk is full: nothing can grow.
    DiskFull,
    /// The disk cannot be written.
    ReadOnly,
    /// Every commit fails at its last step.
    CommitFails,
    /// All is well again.
    None,
}

/// Runs one case on several threads.
pub fn run<E: Engine, F: Future<Output = ()>>(case: impl FnOnce(E) -> F) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_all().build().unwrap();
    runtime.block_on(case(E::create()));
}

/// Opens the store for tasks to share.
pub async fn open<E: Engine>(engine: &E) -> Arc<E::Store> {
    Arc::new(engine.open().await)
}

/// Closes the store, which nobody else may hold, and opens it again.
pub async fn reopen<E: Engine>(engine: &E, store: Arc<E::Store>) -> Arc<E::Store> {
    drop(Arc::into_inner(store).expect("no task holds the store any more"));
    open(engine).await
}

/// Makes a `#[test]` of each case for this engine.
#[macro_export]
macro_rules! conformance_tests {
    ($engine:ty) => {
        $crate::conformance_tests! { @each $engine:
            sessions {
                every_field_of_a_session_comes_back
                a_decision_sees_the_row_and_its_change_is_committed
                what_was_undone_shows_in_no_later_session
                a_decision_that_changes_nothing_writes_nothing
                a_decision_on_no_session_is_not_run
                a_session_is_replaced_only_by_its_next_version
                an_ended_session_never_lives_again
                a_decision_may_write_lines_and_events_without_touching_the_row
                a_full_timeline_still_tells_the_end
                a_line_for_no_session_is_dropped
            }
            starts {
                a_session_starts_only_for_a_user_who_may_log_in
                a_session_starts_only_at_the_epoch_its_login_began_with
                a_session_id_is_used_once
                the_oldest_sessions_make_room_for_a_new_one
            }
            endings {
                ending_one_session_writes_one_event_and_one_line
                ending_a_users_sessions_spares_the_one_that_is_excepted
                sessions_that_have_run_out_are_ended_too
                a_client_s_sessions_end_in_batches
                all_sessions_end_in_batches
                ending_what_has_ended_changes_nothing
            }
            users {
                every_field_of_a_user_comes_back
                a_user_is_found_by_name_whatever_its_case
                a_username_is_taken_once
                a_user_is_replaced_only_by_its_next_version
                a_rehash_changes_secrets_and_nothing_else
                a_user_with_open_sessions_is_not_deleted
                a_deleted_user_is_gone_and_its_name_is_free
                a_user_who_comes_again_begins_above_what_is_known_of_before
                no_read_ever_sees_an_older_user
            }
            clients {
                every_field_of_a_client_comes_back
                a_client_is_replaced_only_by_its_next_version
            }
            challenges {
                every_field_of_a_challenge_comes_back
                a_challenge_is_replaced_only_by_its_next_version
                a_challenge_is_taken_once_by_fifty_at_once
            }
            keys {
                every_field_of_a_key_comes_back
                a_withdrawn_key_stays_withdrawn
                a_key_never_gets_the_name_of_another
                named_values_are_kept
                a_named_value_is_swapped_only_for_the_one_that_was_read
            }
            events {
                every_kind_of_event_comes_back
                events_come_in_commit_order_without_a_gap
                a_commit_is_done_whole_or_not_at_all
                the_number_of_an_event_is_never_given_twice
                whoever_waits_for_the_log_is_told_of_what_was_committed
            }
            lists {
                sessions_of_a_user_come_in_pages
                open_sessions_come_in_pages
                users_and_clients_come_in_pages
            }
            sweeps {
                a_sweep_takes_what_is_outdated_and_nothing_else
                a_sweep_follows_a_deadline_that_moves
                a_forgotten_user_who_comes_again_is_not_the_one_before
                a_sweep_keeps_to_its_limit
            }
            races {
                racing_rotations_of_one_token_make_one_lineage
                a_renewal_that_races_an_end_leaves_an_ended_session
                a_login_that_races_a_password_change_leaves_no_session
                racing_changes_of_one_user_lose_nothing
            }
            faults {
                everything_survives_reopening
                what_was_answered_survives_a_full_disk
                what_was_answered_survives_a_disk_that_cannot_be_written
                what_was_answered_survives_commits_that_fail
                a_decision_that_panics_fails_alone
            }
        }
    };
    (@each $engine:ty: $($module:ident { $($case:ident)* })*) => {
        $($(
            #[test]
            fn $case() {
                $crate::conformance::run($crate::conformance::$module::$case::<$engine>);
            }
        )*)*
    };
}

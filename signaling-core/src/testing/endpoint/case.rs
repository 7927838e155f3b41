//! The list of cases, and how one is run.

use std::{future::Future, time::Duration};

use futures::future::BoxFuture;
use tokio::{runtime, time};

use super::{Endpoint, Setup, Unsupported, panics, stage::Host};

/// Longer than any case takes, so that one that hangs fails.
const TIME_LIMIT: Duration = Duration::from_secs(90);

/// The one list of cases, by the module that holds them. Tests run in the order of their names, a
/// few at a time: the long ones are named such that they begin early.
#[doc(hidden)]
#[macro_export]
macro_rules! __endpoint_cases {
    ($then:path $(, $start:path)?) => {
        $then! {
            $($start;)?
            alive {
                a_client_is_gone_after_25_s_of_silence_or_30_s_without_heartbeats
                a_client_without_heartbeats_is_disconnected
                heartbeats_keep_a_connection
                other_messages_are_no_heartbeats
                heartbeats_that_name_a_strange_session_count
                pongs_keep_a_connection_between_heartbeats
                a_client_that_answers_no_ping_is_disconnected
                a_heartbeat_is_in_the_record_within_a_second
            }
            absence {
                a_close_frame_tells_the_partner_once
                an_end_without_a_close_frame_tells_the_partner_once
                a_reset_tells_the_partner_once
                a_disconnect_by_the_host_tells_the_partner_once
                a_protocol_error_tells_the_partner_once
                a_frame_too_large_tells_the_partner_once
                an_expired_token_tells_the_partner_once
                a_newer_connection_tells_the_partner_once_and_starts_over
                a_replaced_connections_late_end_changes_nothing
                the_newest_of_many_connections_stays
                of_connections_at_the_same_time_one_stays
                what_was_on_its_way_to_a_lost_connection_is_void
                after_both_were_away_the_first_back_is_not_told_twice
                a_responder_may_come_back_as_well
                a_participant_that_stays_away_ends_the_session_and_one_that_returns_does_not
            }
            reasons {
                a_partner_that_closes_or_hangs_up_has_left
                a_partner_whose_connection_breaks_is_lost
                a_partner_that_is_not_heard_of_timed_out
                a_partner_on_a_newer_connection_was_replaced
                a_partner_or_a_session_that_the_host_ends_has_ended
            }
            messages {
                a_call_is_set_up_with_the_messages_of_the_protocol
                every_form_of_description_and_candidate_is_relayed
                a_heartbeat_is_acknowledged_where_it_asks
                leaving_ends_the_session_and_tells_the_partner_once
                the_host_ends_a_session_and_both_are_told_once
            }
            sessions {
                a_match_is_announced_to_whoever_is_there_and_to_the_other_when_it_comes
                opening_again_changes_nothing
                an_id_is_not_shared_by_other_users_or_roles
                a_user_is_not_matched_with_itself
                a_session_is_active_while_both_are_there
                what_is_said_before_the_responder_comes_follows_its_match
                what_the_responder_says_first_is_kept_too
                too_many_signals_for_an_absent_partner_are_refused_and_it_all_starts_over
                too_many_bytes_for_an_absent_partner_are_refused_and_it_all_starts_over
                after_the_first_offer_either_side_may_offer
                after_a_return_the_initiator_offers_first_again
                a_user_may_be_in_several_sessions
                a_user_is_in_no_more_sessions_than_allowed
                an_id_may_be_used_again_after_its_session
                a_user_id_may_be_any_text
            }
            errors {
                a_strange_session_is_unknown_and_nothing_is_disclosed
                the_responders_first_offer_is_refused
                a_told_sender_is_refused
                a_signal_too_large_to_be_kept_is_refused
                signals_beyond_the_rate_are_refused_and_a_patient_client_goes_on
                what_the_store_must_know_is_unavailable_without_it
                signals_beyond_the_bytes_of_a_user_are_refused_and_harm_nobody
                errors_quote_nothing
            }
            closes {
                the_host_disconnects_with_1000
                a_clients_close_is_answered
                a_clients_close_code_comes_back
                a_close_waits_for_its_answer_and_not_for_ever
                a_shutdown_closes_with_1001
                a_corrupt_store_closes_with_1011
                malformed_messages_in_a_row_close_with_4400
                a_replaced_connection_closes_with_4409
                a_client_that_does_not_read_closes_with_4413
                signals_far_beyond_the_rate_close_with_4429
                control_frames_far_beyond_the_rate_close_with_4429
                without_the_store_a_connection_closes_with_4503
                one_connection_too_many_closes_with_4503
                a_user_that_reconnects_over_and_over_closes_with_4429
            }
            handshake {
                pages_of_other_origins_are_refused_before_the_upgrade
                without_that_option_every_origin_may_connect
                what_is_no_handshake_is_refused_as_http
                list_headers_are_read_as_lists_over_all_their_lines
                a_subprotocol_that_is_not_known_is_not_answered
                a_bad_token_may_get_an_http_status
                beneath_a_prefix_it_is_the_same
                a_panic_in_the_hosts_own_handler_changes_nothing
            }
            admission {
                where_second_connections_are_refused_the_first_stays
                of_connections_at_the_same_time_one_is_admitted
                the_host_decides_which_connection_stays
                who_the_host_refuses_is_closed_with_1008_and_its_reason
                a_hook_that_does_not_answer_closes_with_4503
                a_session_that_the_host_refuses_is_not_opened
            }
            tokens {
                a_token_comes_by_query_header_or_subprotocol
                only_the_protocol_itself_is_echoed_as_subprotocol
                a_bad_token_is_closed_with_4401_and_nothing_else
                a_bad_token_is_refused_however_it_comes
                a_bad_token_replaces_nobody
                a_token_that_cannot_be_checked_now_is_closed_with_4503
                an_expiring_token_ends_its_connection
                a_token_is_renewed_on_the_open_connection
                a_revoked_token_closes_its_connection_and_opens_none
            }
            malformed {
                what_is_no_message_is_answered_and_the_connection_goes_on
                what_looks_odd_is_accepted
            }
            frames {
                fragments_are_joined_and_a_ping_between_them_is_answered
                a_message_may_come_byte_by_byte
                many_messages_may_come_at_once
                pings_are_answered_and_pongs_ignored
                the_largest_frame_is_relayed
                a_frame_too_large_closes_with_1009
                the_close_code_reaches_a_client_that_is_still_sending
                text_that_is_not_utf8_closes_with_1007
                a_breach_of_the_transports_rules_closes_with_1002
            }
            ice {
                who_negotiated_v1_is_told_of_ice_servers_and_nobody_else
                without_ice_servers_a_match_is_the_same_for_all
            }
            continuing {
                who_opens_a_new_connection_first_is_never_missed
                who_comes_back_goes_on_and_so_do_both
                what_cannot_be_continued_begins_anew
                where_second_connections_are_refused_the_same_client_goes_on
            }
            relaying {
                a_signal_arrives_byte_for_byte
                unknown_fields_are_left_out
            }
            crowd {
                two_clients_signal_at_the_same_time
                a_hundred_pairs_do_not_mix
                one_flood_does_not_hold_up_others
            }
        }
    };
}

type Case = for<'a> fn(&'a Host) -> BoxFuture<'a, ()>;

macro_rules! table {
    ($($subject:ident { $($case:ident)* })*) => {
        const CASES: &[(&str, Case)] = &[$($({
            fn case(host: &Host) -> BoxFuture<'_, ()> {
                Box::pin(super::$subject::$case(host))
            }
            (concat!(stringify!($subject), "::", stringify!($case)), case)
        },)*)*];
    };
}

__endpoint_cases!(table);

/// Runs the case of this name, `subject::name`, on endpoints that `start` starts;
/// [`endpoint_tests!`](crate::endpoint_tests) makes one test of each.
///
/// # Panics
///
/// When an expectation of the case fails, or there is none of this name.
pub fn run<F, W>(name: &'static str, start: F)
where
    F: Fn(Setup) -> W + Send + Sync + 'static,
    W: Future<Output = Result<Box<dyn Endpoint>, Unsupported>> + Send + 'static,
{
    let Some((_, case)) = CASES.iter().find(|(known, _)| *known == name) else {
        panic!("there is no case {name:?}");
    };
    panics::watch(name);
    let runtime = runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name(name)
        .enable_all()
        .build();
    let runtime = runtime.unwrap_or_else(|error| panic!("no runtime: {error}"));
    runtime.block_on(async {
        let host = Host::new(start);
        let played = async {
            case(&host).await;
            host.check_up().await;
        };
        let in_time = time::timeout(TIME_LIMIT, played).await;
        assert!(in_time.is_ok(), "{name} took longer than {TIME_LIMIT:?}");
    });
    runtime.shutdown_timeout(Duration::from_secs(1));
    let panics = panics::noted(name);
    assert!(panics.is_empty(), "the endpoint panicked: {panics:?}");
}

//! The example as it is run.
#![allow(clippy::unwrap_used, reason = "tests, of which clippy knows only the functions marked so")]

mod lesson;

#[tokio::test]
async fn two_users_who_join_a_lesson_have_a_call() {
    lesson::is_held_by(env!("CARGO_BIN_EXE_axum-app")).await;
}

#[tokio::test]
async fn nobody_has_to_read_what_it_says() {
    lesson::is_held_unread_by(env!("CARGO_BIN_EXE_axum-app")).await;
}

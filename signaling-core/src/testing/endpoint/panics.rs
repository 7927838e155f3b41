//! Notices the panics of an endpoint's tasks, which nobody awaits.

use std::{
    collections::HashMap,
    panic,
    sync::{Mutex, MutexGuard, Once, PoisonError},
    thread,
};

use super::PANIC;

/// By the name of the threads that a case's runtime has.
static PANICS: Mutex<Option<HashMap<String, Vec<String>>>> = Mutex::new(None);

fn panics() -> MutexGuard<'static, Option<HashMap<String, Vec<String>>>> {
    PANICS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Notes panics of threads called `name` from now on.
pub(super) fn watch(name: &str) {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let previous = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            let thread = thread::current();
            if let Some(noted) = panics().as_mut().and_then(|all| all.get_mut(thread.name()?)) {
                noted.push(info.to_string());
            }
            previous(info);
        }));
    });
    panics().get_or_insert_default().insert(name.to_owned(), Vec::new());
}

/// What was noted, but for what a case asked the host for.
pub(super) fn noted(name: &str) -> Vec<String> {
    let mut noted = panics().as_mut().and_then(|all| all.remove(name)).unwrap_or_default();
    noted.retain(|panic| !panic.contains(PANIC));
    noted
}

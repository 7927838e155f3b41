//! A host that has its own tickets instead of JWTs.

use async_trait::async_trait;
use signaling_core::{
    auth::{AuthError, Authenticator, Credentials, Identity},
    id::UserId,
};

#[derive(Debug)]
struct Tickets;

#[async_trait]
impl Authenticator for Tickets {
    async fn authenticate(&self, credentials: &Credentials) -> Result<Identity, AuthError> {
        let ticket = credentials.token().ok_or(AuthError::Missing)?;
        let user = match ticket.strip_prefix("ticket-of-") {
            Some(user) => UserId::new(user).map_err(AuthError::invalid)?,
            None => return Err(AuthError::invalid("no ticket of ours")),
        };
        Ok(Identity::new(user))
    }
}

#[tokio::test]
async fn a_host_may_bring_its_own_authenticator() {
    let authenticator: &dyn Authenticator = &Tickets;
    let alice = Credentials::bearer("ticket-of-alice");
    let identity = authenticator.authenticate(&alice).await.unwrap();
    assert_eq!(identity, Identity::new(UserId::new("alice").unwrap()));

    let nobody = authenticator.authenticate(&Credentials::none()).await;
    assert!(matches!(nobody, Err(AuthError::Missing)));
    let forged = authenticator.authenticate(&Credentials::bearer("x")).await;
    assert!(matches!(forged, Err(AuthError::Invalid(_))));
}

//! The user and the clients of development mode.

use super::{Clients, DevFile, Parts, Public, Service, UserLogin};
use crate::manage::clients::NewClient;
use crate::manage::users::NewUser;
use crate::manage::{Manage, ManageError};
use crate::password::{Hasher, Password};
use crate::start::StartError;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use reseal_core::ClientId;
use reseal_core::claims::Projection;
use reseal_core::client::SecretHash;
use reseal_jose::Algorithm;
use reseal_store::StoreError;

const USERNAME: &str = "demo";
const CLAIMS: [&str; 5] = ["name", "email", "phone_number", "phone_number_verified", "roles"];
/// Any page of this machine, on any port.
const ORIGINS: [&str; 3] = ["http://localhost:*", "http://127.0.0.1:*", "http://[::1]:*"];

/// A client as development mode registers it.
struct Sketch {
    id: &'static str,
    name: &'static str,
    policy: &'static str,
    scope: &'static str,
    confidential: bool,
}

const SLIDING: Sketch = public("sliding", "Sliding demo", "web");
const FIXED: Sketch = public("fixed", "Fixed demo", "remember");
const REFRESH: Sketch = public("refresh", "Refresh demo", "app");
const COOKIE: Sketch = public("cookie", "Cookie demo", "browser");
const SERVICE: Sketch = Sketch {
    id: "service",
    name: "Service demo",
    policy: "app",
    scope: "reseal:admin reseal:feed",
    confidential: true,
};

const fn public(id: &'static str, name: &'static str, policy: &'static str) -> Sketch {
    Sketch { id, name, policy, scope: "profile", confidential: false }
}

/// Makes what is missing; what an earlier start made, and `known` tells, stays as it is.
pub(super) async fn seed(
    parts: Parts<'_>,
    known: Option<DevFile>,
    issuer: &str,
) -> Result<DevFile, StartError> {
    let policies = parts.config.policies()?;
    let now = parts.clock.now();
    let manage = Manage {
        store: parts.store,
        random: parts.random,
        now,
        event_until: reseal_core::event::event_until(now, policies.longest_access_ttl()),
        policies: &policies,
    };
    let (user, service) = known.map(|file| (file.user, file.clients.service)).unzip();
    let user = ensure_user(&manage, user).await?;
    for sketch in [SLIDING, FIXED, REFRESH, COOKIE] {
        ensure_client(&manage, &sketch).await?;
    }
    let service = ensure_service(&manage, service).await?;
    let clients = Clients {
        sliding: id(&SLIDING),
        fixed: id(&FIXED),
        refresh: id(&REFRESH),
        cookie: id(&COOKIE),
        service,
    };
    Ok(DevFile { issuer: issuer.to_owned(), user, clients })
}

fn id(sketch: &Sketch) -> Public {
    Public { client_id: sketch.id.to_owned() }
}

async fn ensure_user(manage: &Manage<'_>, known: Option<UserLogin>) -> Result<UserLogin, StartError> {
    let username = known.as_ref().map_or(USERNAME, |user| &user.username).to_owned();
    let found = manage.store.user_by_username(&username).await?;
    let new_password = || URL_SAFE_NO_PAD.encode(manage.random.bytes::<16>());
    match (found, known) {
        // His password may have been changed since; it is his.
        (Some(_), Some(user)) => Ok(user),
        // Without dev.json nobody knows the password.
        (Some((record, _)), None) => {
            let password = new_password();
            manage.set_password(record.id, &hash(&password).await?).await.map_err(failed)?;
            Ok(UserLogin { username, password })
        }
        (None, known) => {
            let password = known.map_or_else(new_password, |user| user.password);
            let user = NewUser {
                username: username.clone(),
                name: Some("Demo User".to_owned()),
                email: Some("demo@example.com".to_owned()),
                roles: vec!["editor".to_owned(), "member".to_owned()],
                password_hash: Some(hash(&password).await?),
                ..NewUser::default()
            };
            manage.create_user(user).await.map_err(failed)?;
            Ok(UserLogin { username, password })
        }
    }
}

async fn hash(password: &str) -> Result<String, StartError> {
    let unusable =
        |error: &dyn std::fmt::Display| StoreError::Unavailable(format!("the user's password: {error}"));
    let password = Password::new(password.to_owned()).map_err(|e| unusable(&e))?;
    let hash = Hasher::new(1, 1).hash(password).await.map_err(|e| unusable(&e))?;
    Ok(hash.to_string())
}

async fn ensure_client(manage: &Manage<'_>, sketch: &Sketch) -> Result<(), StartError> {
    if manage.store.client(&sketch.client_id()).await?.is_none() {
        manage.create_client(sketch.client()).await.map_err(failed)?;
    }
    Ok(())
}

async fn ensure_service(manage: &Manage<'_>, known: Option<Service>) -> Result<Service, StartError> {
    let secret = match (manage.store.client(&SERVICE.client_id()).await?, known) {
        (None, _) => manage.create_client(SERVICE.client()).await.map_err(failed)?.1,
        (Some(client), Some(known)) if client.secret_hash == Some(SecretHash::of(&known.client_secret)) => {
            return Ok(known);
        }
        (Some(_), _) => Some(manage.rotate_client_secret(&SERVICE.client_id()).await.map_err(failed)?.1),
    };
    let secret = secret.expect("a confidential client gets a secret");
    Ok(Service { client_id: SERVICE.id.to_owned(), client_secret: secret.reveal().to_owned() })
}

impl Sketch {
    fn client_id(&self) -> ClientId {
        self.id.parse().expect("a client id")
    }

    fn client(&self) -> NewClient {
        NewClient {
            id: Some(self.client_id()),
            name: self.name.to_owned(),
            confidential: self.confidential,
            policy: self.policy.parse().expect("a policy name"),
            audience: Vec::new(),
            scope: self.scope.parse().expect("a scope"),
            claims: Projection::parse(CLAIMS).expect("names of claims"),
            origins: if self.confidential { Vec::new() } else { ORIGINS.map(str::to_owned).to_vec() },
            algorithm: Algorithm::Es256,
            introspect: self.confidential,
        }
    }
}

fn failed(error: ManageError) -> StartError {
    match error {
        ManageError::Store(error) => error.into(),
        other => StoreError::Unavailable(format!("development mode's records: {other}")).into(),
    }
}

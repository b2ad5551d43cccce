//! What standard output says at the start: where it listens, and how to log in.

use super::DevFile;

/// The start-up text of development mode. Its first line is for scripts.
pub fn start_up_text(file: &DevFile, folder: &std::path::Path) -> String {
    let DevFile { issuer, user, clients } = file;
    let (username, password) = (&user.username, &user.password);
    let (refresh, cookie) = (&clients.refresh.client_id, &clients.cookie.client_id);
    let service = &clients.service.client_id;
    let file = folder.join("dev.json");
    let file = file.display();
    format!(
        r#"listening on {issuer}

Development mode. Open {issuer} in a browser, or stay here.
User {username}, password {password}

Log in and get tokens:
  curl -s {issuer}/v1/session -H 'Content-Type: application/json' \
    -d '{{"client_id": "{refresh}", "username": "{username}", "password": "{password}"}}'

Log in and keep a cookie, then look at the session:
  curl -s -c cookies.txt {issuer}/v1/session -H 'Content-Type: application/json' \
    -d '{{"client_id": "{cookie}", "username": "{username}", "password": "{password}"}}'
  curl -s -b cookies.txt {issuer}/v1/session

Text messages arrive at {issuer}/dev/outbox. Move the clock an hour ahead:
  curl -s {issuer}/dev/clock -H 'Content-Type: application/json' -d '{{"advance": 3600}}'

For scripts, all of this and the secret of the client {service} (administration) are in
{file}. Stop with Ctrl-C.
"#
    )
}

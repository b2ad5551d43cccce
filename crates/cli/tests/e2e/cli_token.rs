//! `reseal token`.

use crate::support::{Folder, Ran, Server};
use reseal_jose::{Algorithm, JwkSet, SigningKey};
use reseal_server::random::Random;
use serde_json::{Value, json};

const NOW: i64 = 1_800_000_000;

/// A key, its published set in `jwks.json`, and a folder to work in.
struct Signer {
    key: SigningKey,
    random: Random,
    folder: Folder,
}

impl Signer {
    fn new(algorithm: Algorithm) -> Self {
        let random = Random::new();
        let key = SigningKey::generate(algorithm, random.source()).unwrap();
        let folder = Folder::new();
        let set = JwkSet { keys: vec![key.public_jwk().clone()] };
        folder.write("jwks.json", serde_json::to_vec(&set).unwrap());
        folder.write("key.json", serde_json::to_vec(key.public_jwk()).unwrap());
        Self { key, random, folder }
    }

    fn sign(&self, typ: &str, payload: &[u8]) -> String {
        self.key.sign(typ, payload, self.random.source()).unwrap()
    }

    fn token(&self, claims: &Value) -> String {
        self.sign("at+jwt", claims.to_string().as_bytes())
    }

    /// `token verify` at [`NOW`], with these options.
    fn verify(&self, options: &str, token: &str) -> Ran {
        let options: Vec<&str> = options.split(' ').filter(|o| !o.is_empty()).collect();
        let now = NOW.to_string();
        let time: &[&str] = if options.contains(&"--signature-only") { &[] } else { &["--now", &now] };
        let all =
            [&["token", "verify", "--jwks", "jwks.json"], time, options.as_slice(), &["--", token]].concat();
        self.folder.run_args(&all)
    }
}

fn good() -> Value {
    json!({ "iss": "https://id.example", "sub": "ada", "aud": ["https://id.example", "api"], "iat": NOW, "exp": NOW + 300 })
}

#[test]
fn the_payload_of_a_good_token_is_printed_byte_for_byte() {
    for algorithm in [Algorithm::Es256, Algorithm::EdDsa, Algorithm::Rs256] {
        let signer = Signer::new(algorithm);
        let payload = format!(" {{\"exp\" :{}, \"name\":\"Zo\\u00eb\" }}\n", NOW + 1);
        let ran = signer.verify("", &signer.sign("at+jwt", payload.as_bytes()));
        assert_eq!((ran.code, ran.out.as_str(), ran.err.as_str()), (0, payload.as_str(), ""), "{algorithm}");
    }
}

#[test]
fn a_single_key_will_do_and_the_token_may_come_from_standard_input() {
    let signer = Signer::new(Algorithm::Es256);
    let token = signer.token(&good());
    for input in [token.clone(), format!("{token}\n"), format!("{token}\r\n")] {
        let arguments = format!("token verify --jwks key.json --now {NOW} -");
        assert_eq!(signer.folder.run_with_input(&arguments, input).json(), good());
    }
    let arguments = format!("token verify --jwks key.json --now {NOW} -");
    signer.folder.run_with_input(&arguments, format!(" {token}")).fails(1, "error: ");
    signer.folder.run_with_input(&arguments, "").fails(1, "the token is empty");
    signer.folder.run_with_input(&arguments, vec![b'a'; 100_000]).fails(1, "more than 16384 are not read");
    signer.folder.run_with_input(&arguments, [0xff, 0xfe]).fails(1, "error: ");
}

#[test]
fn every_refusal_is_exit_code_1_with_its_reason() {
    let signer = Signer::new(Algorithm::Es256);
    let other = Signer::new(Algorithm::Es256);
    let with = |name: &str, value: Value| {
        let mut claims = good();
        claims[name] = value;
        signer.token(&claims)
    };
    let fine = signer.token(&good());
    let cases = [
        ("", String::new(), "the token is empty"),
        ("", "nonsense".to_owned(), "three parts"),
        ("", format!("{fine}="), "base64url"),
        ("", other.token(&good()), "no usable key has the `kid`"),
        ("", with("exp", json!(NOW)), "the token expired now"),
        ("", with("exp", json!(NOW - 7200)), "the token expired 2 h ago"),
        ("", with("exp", json!("soon")), "`exp` is not a time"),
        ("", signer.token(&json!({ "sub": "ada" })), "no `exp`"),
        ("", with("nbf", json!(NOW + 60)), "not valid yet"),
        ("", signer.sign("at+jwt", b"not json"), "not a claims set"),
        ("", signer.sign("JWT", b"{\"sub\":1,\"sub\":2}"), "there twice"),
        ("--issuer https://other.example", fine.clone(), "another issuer"),
        ("--audience other", fine.clone(), "for others"),
        ("--typ JWT", fine.clone(), "not JWT"),
        ("--alg RS256 --alg EdDSA", fine.clone(), "--alg does not allow"),
        ("--alg HS256", fine.clone(), "--alg does not allow"),
    ];
    for (options, token, saying) in cases {
        let ran = signer.verify(options, &token).fails(1, saying);
        assert_eq!(ran.out, "", "{options}");
    }
    let tampered = {
        let (head, signature) = fine.rsplit_once('.').unwrap();
        let other = signer.token(&json!({ "sub": "eve", "exp": NOW + 300 }));
        assert_ne!(head, other.rsplit_once('.').unwrap().0);
        format!("{}.{signature}", other.rsplit_once('.').unwrap().0)
    };
    signer.verify("", &tampered).fails(1, "signature");
    signer
        .verify("--alg ES256 --alg RS256 --typ at+jwt --issuer https://id.example --audience api", &fine)
        .ok();
    signer.verify("--leeway 60", &with("exp", json!(NOW - 59))).ok();
    signer.verify("", &signer.sign("JWT", b"{}")).ok();
}

#[test]
fn signature_only_looks_at_nothing_of_the_content() {
    let signer = Signer::new(Algorithm::EdDsa);
    let ran = signer.verify("--signature-only", &signer.sign("x", b"\x00any \n bytes"));
    assert_eq!((ran.code, ran.out.as_bytes()), (0, b"\x00any \n bytes".as_slice()));
    signer.verify("--signature-only", &signer.token(&json!({ "exp": 1 }))).ok();
    signer.verify("--signature-only --alg Ed25519", &signer.token(&good())).ok();
    signer.verify("--signature-only --alg ES256", &signer.token(&good())).fails(1, "--alg");
    signer.verify("--signature-only --issuer x", &signer.token(&good())).fails(2, "cannot be used with");
}

#[test]
fn a_wrong_command_line_or_an_unreadable_file_is_exit_code_2_and_no_usable_key_is_1() {
    let signer = Signer::new(Algorithm::Es256);
    let token = signer.token(&good());
    let verify = |file: &str| signer.folder.run_args(&["token", "verify", "--jwks", file, &token]);
    verify("missing.json").fails(2, "cannot read missing.json");
    verify(".").fails(2, "cannot read .");
    signer.folder.write("text.json", "hello");
    verify("text.json").fails(2, "neither a JSON Web Key Set nor a JSON Web Key");
    for (json, saying) in [
        ("{\"keys\":[]}", "the set is empty"),
        ("{}", "no usable key"),
        ("{\"kty\":\"oct\",\"k\":\"AAAA\"}", "symmetric"),
        ("{\"keys\":[],\"keys\":[]}", "no usable key"),
    ] {
        signer.folder.write("other.json", json);
        verify("other.json").fails(1, saying);
    }
    signer.folder.run_args(&["token", "verify", &token]).fails(2, "--jwks");
    signer.verify("--leeway 61", &token).fails(2, "61");
}

#[test]
fn inspect_says_in_words_what_a_token_is() {
    let signer = Signer::new(Algorithm::Es256);
    let token = signer.token(&good());
    let inspect = |options: &str, token: &str| {
        signer.folder.run_with_input(&format!("token inspect {options}--now {} -", NOW + 60), token)
    };
    let said = inspect("", &token).ok();
    assert!(said.contains("access token") && said.contains("in 4 min (2027-01-15"), "{said}");
    assert!(said.contains("not checked: nothing proves who made it"), "{said}");
    let said = inspect("--jwks jwks.json ", &token).ok();
    assert!(said.contains("verdict     valid\n"), "{said}");
    let said = inspect("--jwks jwks.json ", &signer.token(&json!({ "exp": NOW }))).ok();
    assert!(said.contains("not valid: the token expired 1 min ago"), "{said}");
    let told = inspect("--json ", &token).json();
    assert_eq!((&told["valid"], &told["payload"]), (&json!(null), &good()));

    // Not one of ours, and not one we would take: shown all the same.
    let foreign = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhZGEifQ.c2lnbmF0dXJl";
    let said = inspect("", foreign).ok();
    assert!(said.contains("\"sub\": \"ada\"") && said.contains("not valid"), "{said}");
    let twice = inspect("", &signer.sign("JWT", b"{\"sub\":1,\"sub\":2}")).ok();
    assert!(twice.contains("there twice"), "{twice}");
    inspect("", "nonsense").fails(1, "this is no token");
    let shown = inspect("", &signer.token(&json!({ "sub": "\u{9b}31m\u{7f}", "exp": NOW }))).ok();
    assert!(
        !shown.contains('\u{9b}') && !shown.contains('\u{7f}'),
        "no control characters reach the terminal"
    );
}

#[test]
fn inspect_with_the_data_folder_knows_the_session() {
    let server = Server::start_dev();
    let login = server.login("refresh");
    let inspect = |token: &str| server.run(&format!("token inspect {token}")).ok();
    let access = login["access_token"].as_str().unwrap();
    let refresh = login["refresh_token"].as_str().unwrap();
    let said = inspect(access);
    assert!(said.contains("verdict     valid\n") && said.contains("live; ends"), "{said}");
    let said = inspect(refresh);
    assert!(said.contains("refresh token") && said.contains("the newest") && said.contains("demo"), "{said}");

    server.run("users set demo --name Other").ok();
    assert!(inspect(access).contains("stale: revision 1"));
    server.run("sessions end --user demo").ok();
    assert!(inspect(access).contains("not valid: the session ended"), "{}", inspect(access));
    assert!(inspect(refresh).contains("revoked"));

    let changed = if refresh.as_bytes()[40] == b'A' { "B" } else { "A" };
    let forged = format!("{}{changed}{}", &refresh[..40], &refresh[41..]);
    assert!(inspect(&forged).contains("it is forged"), "{}", inspect(&forged));
    let other = Server::start_dev();
    let said = other.run(&format!("token inspect {access}")).ok();
    assert!(said.contains("the authority has no key"), "{said}");
}

#[test]
fn secrets_are_recognised_without_any_key() {
    let folder = Folder::new();
    let said = folder.run("token inspect rsl_cs_0123456789").ok();
    assert!(said.contains("client secret"), "{said}");
    assert!(said.contains("only its use shows") && !said.contains("--jwks"), "{said}");
    let server = Server::start_dev();
    let refresh = server.login("refresh")["refresh_token"].as_str().unwrap().to_owned();
    let said = folder.run(&format!("token inspect {refresh}")).ok();
    assert!(said.contains("refresh token of Reseal") && said.contains("not checked"), "{said}");
    let said = folder.run(&format!("token inspect {}", &refresh[..40])).ok();
    assert!(said.contains("its form is wrong"), "{said}");
}

#[test]
fn a_token_that_a_client_got_for_itself_names_no_user() {
    let server = Server::start_dev();
    let service = &server.dev["clients"]["service"];
    let (id, secret) = (service["client_id"].as_str().unwrap(), service["client_secret"].as_str());
    let form = format!("grant_type=client_credentials&client_id={id}&client_secret={}", secret.unwrap());
    let asked = reqwest::blocking::Client::new().post(format!("{}/oauth/token", server.url)).body(form);
    let asked = asked.header("content-type", "application/x-www-form-urlencoded").send().unwrap();
    let token: Value = asked.error_for_status().unwrap().json().unwrap();
    let said = server.run(&format!("token inspect {}", token["access_token"].as_str().unwrap())).ok();
    assert!(said.contains("\nclient      service") && !said.contains("\nuser  "), "{said}");
}

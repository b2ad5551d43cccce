//! PostgreSQL: one server, or a primary with a synchronous standby.

use crate::home;
use crate::port::Port;
use crate::process::Process;
use crate::program::Program;
use crate::wait::until;
use rustix::process::Signal;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock};

/// The superuser of every server.
const USER: &str = "reseal";

/// How a server is set up.
#[derive(Clone, Debug)]
pub struct PgOptions {
    /// Whether commits reach the disk. A killed server loses nothing either way; a machine would.
    pub fsync: bool,
    /// Whether there is a standby that has every commit before it is answered.
    pub synchronous_standby: bool,
    /// The superuser's password, which is then asked of everyone (SCRAM). None: all on this machine are let in.
    pub password: Option<String>,
    /// Further settings of `postgresql.conf`.
    pub settings: Vec<(String, String)>,
    /// Files of the data folder by name, such as a certificate, its key, or another `pg_hba.conf`.
    pub files: Vec<(String, String)>,
}

impl Default for PgOptions {
    fn default() -> Self {
        Self {
            fsync: true,
            synchronous_standby: false,
            password: None,
            settings: Vec::new(),
            files: Vec::new(),
        }
    }
}

/// A server, stopped and removed when dropped.
#[derive(Debug)]
pub struct Postgres {
    options: PgOptions,
    nodes: Mutex<Nodes>,
    /// Those of the primary and the standby, who change places.
    ports: [Port; 2],
    databases: AtomicU32,
}

#[derive(Debug)]
struct Nodes {
    /// Index into the ports.
    primary: usize,
    nodes: [Option<Node>; 2],
}

/// A data folder and its server.
#[derive(Debug)]
struct Node {
    folder: PathBuf,
    process: Option<Process>,
}

impl Postgres {
    /// Starts one, and its standby if there is to be one.
    ///
    /// # Panics
    /// When PostgreSQL is not installed or does not start.
    pub fn start(options: PgOptions) -> Self {
        let postgres = Self {
            nodes: Mutex::new(Nodes { primary: 0, nodes: [None, None] }),
            ports: [Port::free(), Port::free()],
            databases: AtomicU32::new(0),
            options,
        };
        let mut node = postgres.new_primary();
        postgres.run(&mut node, 0);
        let mut nodes = postgres.lock();
        nodes.nodes[0] = Some(node);
        if postgres.options.synchronous_standby {
            postgres.add_standby(&mut nodes);
        }
        drop(nodes);
        postgres
    }

    /// The one that all tests of this process share, each with a database of its own. It does not sync.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Postgres> = OnceLock::new();
        SHARED.get_or_init(|| Self::start(PgOptions { fsync: false, ..PgOptions::default() }))
    }

    /// A new empty database.
    pub fn database(&self) -> Database<'_> {
        let name = format!("test_{}", self.databases.fetch_add(1, Ordering::Relaxed));
        self.sql("postgres", &format!("CREATE DATABASE {name}"));
        Database { postgres: self, name }
    }

    /// What the primary answers to SQL, as unaligned text.
    ///
    /// # Panics
    /// When the statement fails.
    pub fn sql(&self, database: &str, statement: &str) -> String {
        let primary = self.lock().primary;
        self.try_sql(primary, database, statement).unwrap_or_else(|e| panic!("{statement}: {e}"))
    }

    /// The primary's URL of a database.
    pub fn url(&self, database: &str) -> String {
        let primary = self.lock().primary;
        self.url_of(&[primary], database, "")
    }

    /// The standby's URL of a database.
    pub fn standby_url(&self, database: &str) -> String {
        let primary = self.lock().primary;
        self.url_of(&[1 - primary], database, "")
    }

    /// Names both servers; whoever connects takes the one that may write. It stays right after a failover.
    pub fn multi_host_url(&self, database: &str) -> String {
        self.url_of(&[0, 1], database, "?target_session_attrs=read-write")
    }

    /// The primary's port.
    pub fn port(&self) -> u16 {
        let primary = self.lock().primary;
        self.ports[primary].number()
    }

    /// The addresses of both servers, in the order of [`multi_host_url`](Self::multi_host_url).
    pub fn hosts(&self) -> [std::net::SocketAddr; 2] {
        [self.ports[0].addr(), self.ports[1].addr()]
    }

    /// Kills the primary with all its processes at once, as when its machine loses its power.
    pub fn kill(&self) {
        let mut nodes = self.lock();
        let primary = nodes.primary();
        primary.process.as_mut().expect("it is running").kill();
        primary.process = None;
    }

    /// Starts a killed primary again, or ends (`fast`) and starts a running one.
    pub fn restart(&self) {
        let mut nodes = self.lock();
        let index = nodes.primary;
        let node = nodes.primary();
        if let Some(mut process) = node.process.take() {
            process.end(Signal::INT);
        }
        self.run(node, index);
        if nodes.nodes[1 - index].is_some() {
            self.until_followed(index, "streaming sync");
        }
    }

    /// Holds the primary still: connections stay, nothing is answered.
    pub fn pause(&self) {
        self.lock().primary().process.as_mut().expect("it is running").pause();
    }

    /// Lets a paused primary go on.
    pub fn resume(&self) {
        self.lock().primary().process.as_mut().expect("it is running").resume();
    }

    /// The standby becomes the primary; the old one, if it still runs, is killed first. Until there is a
    /// [new standby](Self::add_new_standby) commits wait for no one else.
    pub fn promote_standby(&self) {
        let mut nodes = self.lock();
        let old = nodes.primary;
        nodes.nodes[old] = None;
        nodes.primary = 1 - old;
        assert!(nodes.nodes[1 - old].is_some(), "there is a standby");
        let sql = |statement: &str| self.try_sql(1 - old, "postgres", statement).ok();
        until("the standby is promoted", || {
            sql("SELECT pg_promote(true, 60)");
            (sql("SELECT pg_is_in_recovery()")? == "f").then_some(())
        });
    }

    /// Gives a promoted primary a new synchronous standby, on the port of the one that died.
    pub fn add_new_standby(&self) {
        self.add_standby(&mut self.lock());
    }

    fn lock(&self) -> MutexGuard<'_, Nodes> {
        // A test that failed while it held the lock must not hide its message behind another.
        self.nodes.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn new_primary(&self) -> Node {
        let folder = home::folder("postgres");
        let user = home::other_user();
        if let Some((uid, gid)) = user {
            std::os::unix::fs::chown(&folder, Some(uid), Some(gid)).unwrap();
        }
        let mut initdb = home::command(&Program::postgres("initdb"), &folder, user);
        initdb.args(["--no-sync", "--encoding=UTF8", "--locale=C", "--auth-local=reject", "-U", USER]);
        let data = folder.join("data");
        initdb.arg("-D").arg(&data);
        if let Some(password) = &self.options.password {
            let file = folder.join("password");
            write(&file, password);
            initdb.arg("--auth-host=scram-sha-256").arg("--pwfile").arg(file);
        } else {
            initdb.arg("--auth-host=trust");
        }
        succeeds(initdb);
        let flush = if self.options.fsync { "on" } else { "off" };
        let mut settings: Vec<(&str, &str)> = vec![
            ("listen_addresses", "127.0.0.1"),
            ("unix_socket_directories", ""),
            ("timezone", "GMT"),
            ("log_timezone", "GMT"),
            ("max_connections", "300"),
            ("shared_buffers", "32MB"),
            ("fsync", flush),
            ("full_page_writes", flush),
            ("wal_level", "replica"),
            ("wal_keep_size", "256MB"),
            // A standby looks for its primary again at once.
            ("wal_retrieve_retry_interval", "200ms"),
            ("wal_receiver_timeout", "10s"),
            ("wal_sender_timeout", "60s"),
        ];
        settings.extend(self.options.settings.iter().map(|(name, value)| (name.as_str(), value.as_str())));
        let lines =
            settings.iter().map(|(name, value)| format!("{name} = '{}'\n", value.replace('\'', "''")));
        // The last line of a name holds.
        let file = data.join("postgresql.conf");
        let text = std::fs::read_to_string(&file).unwrap() + &lines.collect::<String>();
        std::fs::write(&file, text).unwrap();
        for (name, text) in &self.options.files {
            write(&data.join(name), text);
        }
        Node { folder, process: None }
    }

    /// Starts the server of a data folder and waits until it answers.
    fn run(&self, node: &mut Node, index: usize) {
        let data = node.folder.join("data");
        let mut command = home::command(&Program::postgres("postgres"), &node.folder, home::other_user());
        command.arg("-D").arg(&data).arg("-p").arg(self.ports[index].number().to_string());
        let mut process = Process::start(command, &node.folder.join("log"));
        process.until_ready("PostgreSQL answers", || self.try_sql(index, "postgres", "SELECT 1").is_ok());
        node.process = Some(process);
    }

    /// A copy of the primary that follows it, and that it waits for.
    fn add_standby(&self, nodes: &mut Nodes) {
        let (primary, index) = (nodes.primary, 1 - nodes.primary);
        let folder = home::folder("postgres");
        let user = home::other_user();
        if let Some((uid, gid)) = user {
            std::os::unix::fs::chown(&folder, Some(uid), Some(gid)).unwrap();
        }
        let mut copy = home::command(&Program::postgres("pg_basebackup"), &folder, user);
        if let Some(password) = &self.options.password {
            copy.env("PGPASSWORD", password);
        }
        let source = format!(
            "host=127.0.0.1 port={} user={USER} application_name=standby",
            self.ports[primary].number()
        );
        copy.args(["--no-sync", "--write-recovery-conf", "--wal-method=stream", "--checkpoint=fast", "-d"]);
        copy.arg(source).arg("-D").arg(folder.join("data"));
        succeeds(copy);
        let mut node = Node { folder, process: None };
        self.run(&mut node, index);
        nodes.nodes[index] = Some(node);
        let sql = |statement: &str| self.try_sql(primary, "postgres", statement).ok();
        // Set only now: the copy must not have it, or it would wait for a standby of its own once promoted.
        self.until_followed(primary, "streaming async");
        sql("ALTER SYSTEM SET synchronous_standby_names = 'standby'").expect("a superuser may");
        sql("SELECT pg_reload_conf()").expect("a superuser may");
        self.until_followed(primary, "streaming sync");
    }

    fn until_followed(&self, primary: usize, state: &str) {
        until("the standby follows", || {
            let statement = "SELECT state || ' ' || sync_state FROM pg_stat_replication";
            let seen = self.try_sql(primary, "postgres", statement).ok()?;
            seen.lines().any(|line| line == state).then_some(())
        });
    }

    /// What a server answers.
    fn try_sql(&self, index: usize, database: &str, statement: &str) -> Result<String, String> {
        let mut psql = Program::postgres("psql").command();
        psql.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1", "-U", USER]);
        psql.arg("-p").arg(self.ports[index].number().to_string()).args(["-d", database, "-c", statement]);
        psql.env("PGCONNECT_TIMEOUT", "10").stdin(std::process::Stdio::null());
        if let Some(password) = &self.options.password {
            psql.env("PGPASSWORD", password);
        }
        let done = psql.output().map_err(|e| e.to_string())?;
        if done.status.success() {
            Ok(String::from_utf8_lossy(&done.stdout).trim_end().to_owned())
        } else {
            Err(String::from_utf8_lossy(&done.stderr).into_owned())
        }
    }

    fn url_of(&self, hosts: &[usize], database: &str, query: &str) -> String {
        let hosts: Vec<String> = hosts.iter().map(|index| self.ports[*index].addr().to_string()).collect();
        let password = self.options.password.as_ref().map(|word| format!(":{word}")).unwrap_or_default();
        format!("postgres://{USER}{password}@{}/{database}{query}", hosts.join(","))
    }
}

impl Nodes {
    fn primary(&mut self) -> &mut Node {
        self.nodes[self.primary].as_mut().expect("there is a primary")
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(mut process) = self.process.take() {
            // At once, yet it gives its shared memory back.
            process.end(Signal::QUIT);
        }
        drop(std::fs::remove_dir_all(&self.folder));
    }
}

/// A database of a test, dropped with its value.
#[derive(Debug)]
pub struct Database<'a> {
    postgres: &'a Postgres,
    name: String,
}

impl Database<'_> {
    /// Where it is, with the server that is the primary now.
    pub fn url(&self) -> String {
        self.postgres.url(&self.name)
    }

    /// Its URL with both servers' addresses.
    pub fn multi_host_url(&self) -> String {
        self.postgres.multi_host_url(&self.name)
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The server that it is on.
    pub fn server(&self) -> &Postgres {
        self.postgres
    }

    /// What SQL in it answers, as unaligned text.
    ///
    /// # Panics
    /// When the statement fails.
    pub fn sql(&self, statement: &str) -> String {
        self.postgres.sql(&self.name, statement)
    }
}

impl Drop for Database<'_> {
    fn drop(&mut self) {
        let primary = self.postgres.lock().primary;
        let statement = format!("DROP DATABASE {} WITH (FORCE)", self.name);
        // Its server may be dead, which is then as good.
        drop(self.postgres.try_sql(primary, "postgres", &statement));
    }
}

/// A file that only PostgreSQL's user may read, as it demands of keys.
fn write(path: &Path, text: &str) {
    use std::io::Write as _;
    drop(std::fs::remove_file(path));
    let mut file = std::fs::OpenOptions::new().create_new(true).write(true).mode(0o600).open(path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
    if let Some((uid, gid)) = home::other_user() {
        std::os::unix::fs::chown(path, Some(uid), Some(gid)).unwrap();
    }
    debug_assert_eq!(path.metadata().unwrap().permissions().mode() & 0o077, 0);
}

fn succeeds(mut command: std::process::Command) {
    let done = command.output().unwrap_or_else(|e| panic!("{:?} does not start: {e}", command.get_program()));
    assert!(
        done.status.success(),
        "{:?}: {}{}",
        command.get_program(),
        String::from_utf8_lossy(&done.stdout),
        String::from_utf8_lossy(&done.stderr)
    );
}

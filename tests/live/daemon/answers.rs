//! How long a service takes to answer, as status, API and metrics show it.

use anyhow::{Result, ensure};
use smart_monitor_tests::{Site, free_port, http_get, program};

/// An HTTP server that thinks for 30 ms.
const SERVER: &str = "exec python3 -c '
import http.server, time
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        time.sleep(0.03)
        self.send_response(200); self.send_header(\"Content-Length\", \"0\"); self.end_headers()
    def log_message(self, *words): pass
http.server.ThreadingHTTPServer((\"127.0.0.1\", PORT), Handler).serve_forever()
'";

#[test]
fn a_service_shows_how_long_it_takes_to_answer() -> Result<()> {
    let site = Site::new()?;
    let at = free_port()?;
    let script = site.script("slow", &SERVER.replace("PORT", &at.port().to_string()))?;
    let script = script.display();
    site.configure(&format!(
        "[samplers.service_latency]\ninterval = \"500ms\"\n\n\
         [[service]]\nname = \"slow\"\nkind = \"command\"\ncommand = [\"{script}\"]\n\n\
         [[service]]\nname = \"idle\"\nkind = \"command\"\ncommand = [\"/bin/sleep\", \"1000\"]\n"
    ))?;
    let mut daemon = site.start()?;
    let answers = daemon.wait_for("its latency is shown", |daemon| {
        http_get(at, "/").ok()?;
        let status = daemon.status().ok()?;
        let of = |name: &str| status.view.services.get(name)?.service.latency;
        of("slow").filter(|answers| answers.requests >= 3 && of("idle").is_none())
    })?;
    for nanos in [answers.p50_ns, answers.p99_ns] {
        ensure!((30_000_000..300_000_000).contains(&nanos), "{answers:?}");
    }
    ensure!(answers.rate() > 1.0, "{answers:?}");
    let slow = "service=\"slow\"";
    let requests = daemon.metric("smart_monitor_service_requests_total", slow)?;
    let counted = daemon.metric("smart_monitor_service_latency_seconds_count", slow)?;
    let sum = daemon.metric("smart_monitor_service_latency_seconds_sum", slow)?;
    ensure!(
        requests >= 3.0 && counted >= requests,
        "{requests} {counted}"
    );
    ensure!(sum >= 0.03 * requests, "{sum} s in {requests} requests");
    let mut status = program(smart_monitor_tests::binary()?);
    let shown = status.arg("status").arg("--socket").arg(site.socket());
    let shown = String::from_utf8(shown.output()?.stdout)?;
    let line = |name: &str| shown.lines().find(|line| line.starts_with(name));
    let line_of_slow = line("slow").unwrap_or_default();
    ensure!(
        shown.contains("REQ/S") && line_of_slow.ends_with("ms"),
        "{shown}"
    );
    ensure!(
        line("idle").is_some_and(|line| line.ends_with('-')),
        "{shown}"
    );
    Ok(())
}

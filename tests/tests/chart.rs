//! The Helm chart and its manifests: what they render to, what they refuse, and their documents.

use std::{collections::BTreeMap, fs};

use anyhow::{Context as _, Result, ensure};
use end_to_end::{
    chart::{self, CHART, EVERYTHING, HELMS, MANIFESTS, Tools},
    observer, skip,
};
use serde_json::{Value, json};
use tempfile::TempDir;

const SECURITY: &str = include_str!("../../docs/SECURITY.md");
const KUBERNETES: &str = include_str!("../../docs/KUBERNETES.md");
const VALUES: &str = "| value | default | is |\n|---|---|---|\n";
/// From the oldest that the chart says it is for to the newest that there is a schema of.
const VERSIONS: [&str; 13] = [
    "1.25", "1.26", "1.27", "1.28", "1.29", "1.30", "1.31", "1.32", "1.33", "1.34", "1.35", "1.36",
    "1.37",
];
/// The last that the chart renders otherwise than for those after it.
const LAST_OF_OLD: &str = "1.29";
/// Of the Prometheus operator: Kubernetes has no schema of them.
const OPERATORS: [&str; 3] = ["PodMonitor", "PrometheusRule", "ServiceMonitor"];

fn tools() -> Result<Option<Tools>> {
    if skip::privileged()? {
        return Ok(None);
    }
    Tools::of_test().map(Some)
}

/// The documents that the newest Helm renders for a Kubernetes with these values.
fn rendered(tools: &Tools, kubernetes: &str, values: &[&str]) -> Result<Vec<Value>> {
    tools.documents(&tools.template(&HELMS[0], kubernetes, values)?)
}

/// Its pod's specification.
fn pod(documents: &[Value]) -> Result<Value> {
    Ok(chart::of_kind(documents, "DaemonSet")?["spec"]["template"]["spec"].clone())
}

#[test]
fn helm_has_nothing_to_object() -> Result<()> {
    let Some(tools) = tools()? else { return Ok(()) };
    for helm in &HELMS {
        tools.run(helm, ["lint", "--strict", CHART])?;
        tools.run(helm, ["lint", "--strict", CHART, "--values", EVERYTHING])?;
    }
    Ok(())
}

#[test]
fn every_kubernetes_takes_what_every_helm_renders() -> Result<()> {
    let Some(tools) = tools()? else { return Ok(()) };
    for values in [&[][..], &["--values", EVERYTHING]] {
        for version in VERSIONS {
            let text = tools.template(&HELMS[0], version, values)?;
            if [LAST_OF_OLD, "1.37"].contains(&version) {
                let other = tools.template(&HELMS[1], version, values)?;
                ensure!(
                    tools.documents(&text)? == tools.documents(&other)?,
                    "{} and {} render other documents for {version}",
                    HELMS[0].version,
                    HELMS[1].version
                );
            }
            let said = tools.validate(&text, version)?;
            let objected = |line: &&String| {
                let is_operators = OPERATORS
                    .iter()
                    .any(|kind| line.contains(&format!("schema for kind {kind} ")));
                !line.starts_with("INFO") && !is_operators
            };
            let objections: Vec<_> = said.iter().filter(objected).collect();
            ensure!(objections.is_empty(), "{version}: {objections:#?}");
            let expected = if values.is_empty() { 2 } else { 11 };
            ensure!(said.len() == expected, "{version}: {said:#?}");
        }
    }
    Ok(())
}

/// That would be silence where something is wrong.
#[test]
fn the_validator_finds_what_is_wrong() -> Result<()> {
    let Some(tools) = tools()? else { return Ok(()) };
    let good = tools.template(&HELMS[0], LAST_OF_OLD, &[])?;
    for (from, to) in [
        ("hostPID: true", "hostPID: 1"),
        ("readOnly: true", "readonly: true"),
    ] {
        ensure!(good.contains(from), "no {from}");
        ensure!(
            tools
                .validate(&good.replace(from, to), LAST_OF_OLD)
                .is_err(),
            "{to}"
        );
    }
    // The field for AppArmor came with 1.30.
    let newer = tools.template(&HELMS[0], "1.30", &[])?;
    ensure!(tools.validate(&newer, LAST_OF_OLD).is_err());
    Ok(())
}

#[test]
fn wrong_values_are_refused_by_name() -> Result<()> {
    let Some(tools) = tools()? else { return Ok(()) };
    for (value, name) in [
        ("unknown=1", "unknown"),
        ("image.pullpolicy=\"Always\"", "pullpolicy"),
        ("image.pullPolicy=\"Sometimes\"", "pullPolicy"),
        ("image.digest=\"latest\"", "digest"),
        ("image.repository=\"a b\"", "repository"),
        ("image.pullSecrets=[\"registry\"]", "pullSecrets"),
        ("listen.port=0", "port"),
        ("listen.port=\"9918\"", "port"),
        ("listen.port=65536", "port"),
        ("listen.address=\"example.org\"", "address"),
        ("listen.address=\"::\"", "address"),
        ("config={\"log-level\":\"debug\"}", "config"),
        ("extraArgs=\"--gil\"", "extraArgs"),
        ("extraEnv=[{\"value\":\"1\"}]", "name"),
        ("appMetrics.enabled=\"true\"", "enabled"),
        ("webConfig.enabled=true", "existingSecret"),
        ("webConfig.key=\"a/b\"", "key"),
        ("hostNetwork=\"true\"", "hostNetwork"),
        ("sysAdmin=\"false\"", "sysAdmin"),
        ("seccompProfile={\"type\":\"Strict\"}", "seccompProfile"),
        (
            "seccompProfile={\"type\":\"Localhost\"}",
            "localhostProfile",
        ),
        ("privileged=true", "privileged"),
        ("securityContext={}", "securityContext"),
        (
            "terminationGracePeriodSeconds=1",
            "terminationGracePeriodSeconds",
        ),
        ("updateStrategy.type=\"Recreate\"", "type"),
        ("tolerations=[{\"operator\":\"Any\"}]", "operator"),
        ("livenessProbe.periodSeconds=0", "periodSeconds"),
        ("livenessProbe.exec={}", "exec"),
        ("podMonitor.interval=\"15\"", "interval"),
        ("networkPolicy.from=[{\"ip\":\"10.0.0.0/8\"}]", "ip"),
        ("prometheusRule.groups=[{}]", "rules"),
        ("podLabels.team=1", "team"),
        ("fullnameOverride=\"Upper\"", "fullnameOverride"),
    ] {
        for helm in &HELMS {
            let arguments = ["template", "release", CHART, "--set-json", value];
            let output = tools.output(helm, arguments)?;
            let said = String::from_utf8_lossy(&output.stderr);
            ensure!(!output.status.success(), "{}: {value}", helm.version);
            ensure!(said.contains(name), "{}: {value}: {said}", helm.version);
        }
    }
    Ok(())
}

#[test]
fn values_that_exclude_each_other_are_refused_with_the_fix() -> Result<()> {
    let Some(tools) = tools()? else { return Ok(()) };
    for (value, fix) in [
        ("serviceMonitor.enabled=true", "service.enabled"),
        ("prometheusRule.enabled=true", "prometheusRule.groups"),
    ] {
        let output = tools.output(&HELMS[0], ["template", "release", CHART, "--set", value])?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(!output.status.success() && said.contains(fix), "{said}");
    }
    Ok(())
}

/// Headings of the tables of docs/SECURITY.md, with and without `CAP_SYS_ADMIN`.
const WITH_ADMIN: &str = "`doctor` |\n|---|---|---|---|---|\n";
const WITHOUT_ADMIN: &str = "| capability | for | without it |\n|---|---|---|\n";

/// Names in such a table.
fn capabilities(heading: &str) -> Result<Vec<&'static str>> {
    let (_, rows) = SECURITY
        .split_once(heading)
        .context("no table of capabilities")?;
    let lines = rows.lines().take_while(|line| line.starts_with('|'));
    Ok(lines
        .filter_map(|line| line.strip_prefix("| `CAP_")?.split('`').next())
        .collect())
}

#[test]
fn the_security_context_is_what_the_document_says_and_no_more() -> Result<()> {
    let Some(tools) = tools()? else { return Ok(()) };
    let documents = rendered(&tools, "1.30", &[])?;
    let kinds: Vec<_> = documents.iter().map(|it| it["kind"].clone()).collect();
    ensure!(kinds == ["ServiceAccount", "DaemonSet"], "{kinds:?}");
    let pod = pod(&documents)?;
    let container = &pod["containers"][0];
    let expected = json!({
        "privileged": false,
        "runAsUser": 0,
        "runAsGroup": 0,
        "readOnlyRootFilesystem": true,
        "allowPrivilegeEscalation": true,
        "capabilities": { "drop": ["ALL"], "add": capabilities(WITH_ADMIN)? },
        "seccompProfile": { "type": "RuntimeDefault" },
        "appArmorProfile": { "type": "Unconfined" },
    });
    ensure!(
        container["securityContext"] == expected,
        "{:#}",
        container["securityContext"]
    );
    let mounts = json!([
        { "name": "tracefs", "mountPath": "/sys/kernel/tracing", "readOnly": true },
        { "name": "cgroup", "mountPath": "/host/sys/fs/cgroup", "readOnly": true },
    ]);
    ensure!(
        container["volumeMounts"] == mounts,
        "{:#}",
        container["volumeMounts"]
    );
    ensure!(
        pod["volumes"].as_array().map(Vec::len) == Some(2),
        "{:#}",
        pod["volumes"]
    );
    let shared = [&pod["hostPID"], &pod["hostNetwork"], &pod["hostIPC"]];
    ensure!(
        shared == [&json!(true), &json!(false), &Value::Null],
        "{shared:?}"
    );
    ensure!(pod["automountServiceAccountToken"] == false);
    ensure!(chart::of_kind(&documents, "ServiceAccount")?["automountServiceAccountToken"] == false);
    Ok(())
}

#[test]
fn without_sys_admin_it_adds_what_the_document_says_and_forbids_escalation() -> Result<()> {
    let Some(tools) = tools()? else { return Ok(()) };
    let pod = pod(&rendered(&tools, "1.30", &["--set=sysAdmin=false"])?)?;
    let security = &pod["containers"][0]["securityContext"];
    let added = json!(capabilities(WITHOUT_ADMIN)?);
    ensure!(security["capabilities"]["add"] == added, "{security:#}");
    ensure!(security["allowPrivilegeEscalation"] == false);
    Ok(())
}

#[test]
fn a_token_and_a_role_are_there_only_to_list_and_watch_pods() -> Result<()> {
    let Some(tools) = tools()? else { return Ok(()) };
    let documents = rendered(&tools, "1.30", &[])?;
    ensure!(chart::of_kind(&documents, "ClusterRole").is_err());
    let documents = rendered(&tools, "1.30", &["--set=kubernetes.enabled=true"])?;
    ensure!(pod(&documents)?["automountServiceAccountToken"] == true);
    let arguments = &pod(&documents)?["containers"][0]["args"];
    ensure!(
        arguments
            .as_array()
            .is_some_and(|all| all.contains(&json!("--kubernetes")))
    );
    let rules = &chart::of_kind(&documents, "ClusterRole")?["rules"];
    let expected =
        json!([{ "apiGroups": [""], "resources": ["pods"], "verbs": ["list", "watch"] }]);
    ensure!(*rules == expected, "{rules:#}");
    let binding = chart::of_kind(&documents, "ClusterRoleBinding")?;
    let account = chart::of_kind(&documents, "ServiceAccount")?;
    ensure!(binding["subjects"][0]["name"] == account["metadata"]["name"]);
    Ok(())
}

/// `ValidateSecurityContext` of Kubernetes refuses that pair, which no schema knows of.
#[test]
fn no_pod_forbids_escalation_beside_sys_admin() -> Result<()> {
    let Some(tools) = tools()? else { return Ok(()) };
    for values in [&[][..], &["--values", EVERYTHING]] {
        let pod = pod(&rendered(&tools, "1.30", values)?)?;
        let security = &pod["containers"][0]["securityContext"];
        let added = security["capabilities"]["add"].as_array();
        let added = added.context("no capabilities")?;
        ensure!(added.contains(&json!("SYS_ADMIN")), "{added:?}");
        ensure!(
            security["allowPrivilegeEscalation"] != false,
            "{security:#}"
        );
    }
    Ok(())
}

#[test]
fn a_scrape_keeps_the_pods_that_the_observer_names() -> Result<()> {
    let Some(tools) = tools()? else { return Ok(()) };
    let documents = rendered(&tools, "1.30", &["--values", EVERYTHING])?;
    for (kind, endpoints) in [
        ("PodMonitor", "podMetricsEndpoints"),
        ("ServiceMonitor", "endpoints"),
    ] {
        let endpoints = &chart::of_kind(&documents, kind)?["spec"][endpoints];
        for (number, path) in ["/metrics", "/app-metrics"].into_iter().enumerate() {
            let endpoint = &endpoints[number];
            ensure!(endpoint["honorLabels"] == true, "{kind}: {endpoint:#}");
            ensure!(endpoint["path"] == path, "{kind}: {endpoint:#}");
        }
    }
    Ok(())
}

#[test]
fn probes_ask_as_the_web_configuration_lets_them() -> Result<()> {
    let Some(tools) = tools()? else { return Ok(()) };
    let web = ["--set=webConfig.enabled=true,webConfig.existingSecret=web"];
    let of = |more: &str| {
        let values = [web[0], more];
        let pod = pod(&rendered(&tools, "1.30", &values)?)?;
        anyhow::Ok(pod["containers"][0]["readinessProbe"].clone())
    };
    let plain = of("--set=webConfig.tls=false")?;
    ensure!(plain["httpGet"] == json!({ "path": "/readyz", "port": "metrics", "scheme": "HTTP" }));
    let tls = of("--set=webConfig.tls=true")?;
    ensure!(tls["httpGet"]["scheme"] == "HTTPS", "{tls:#}");
    // A probe has no password.
    let basic = of("--set=webConfig.basicAuth=true")?;
    ensure!(
        basic["httpGet"].is_null() && basic["tcpSocket"] == json!({ "port": "metrics" }),
        "{basic:#}"
    );
    Ok(())
}

#[test]
fn the_program_takes_the_arguments_and_the_configuration() -> Result<()> {
    let Some(tools) = tools()? else { return Ok(()) };
    let documents = rendered(&tools, "1.30", &["--values", EVERYTHING])?;
    let help = observer::output(["run", "--help"])?;
    let help = String::from_utf8_lossy(&help.stdout);
    let pod = pod(&documents)?;
    let arguments = pod["containers"][0]["args"]
        .as_array()
        .context("no arguments")?;
    let mut flags: Vec<_> = arguments.iter().filter_map(Value::as_str).collect();
    ensure!(flags.remove(0) == "run" && flags.len() >= 4, "{flags:?}");
    for flag in flags {
        let name = flag.split('=').next().unwrap_or_default();
        ensure!(
            [' ', '[']
                .iter()
                .any(|next| help.contains(&format!("      {name}{next}"))),
            "`run` has no {name}"
        );
    }
    let config = &chart::of_kind(&documents, "ConfigMap")?["data"]["config.toml"];
    let folder = TempDir::new()?;
    let path = folder.path().join("config.toml");
    fs::write(&path, config.as_str().context("no config.toml")?)?;
    // Read first, and then there is no such Gunicorn.
    let own = std::process::id().to_string();
    let path = path.to_string_lossy();
    let output = observer::output(["run", "--config", &path, "--pid", &own])?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(said.contains("gunicorn-observer list"), "{said}");
    ensure!(!said.contains(&*path), "{said}");
    Ok(())
}

#[test]
fn the_plain_manifests_are_what_the_chart_renders_to() -> Result<()> {
    let Some(tools) = tools()? else { return Ok(()) };
    let present = fs::read_to_string(MANIFESTS)?;
    ensure!(
        present == tools.manifests()?,
        "they are not: run `cargo xtask manifests`"
    );
    for version in VERSIONS.iter().filter(|version| **version >= "1.30") {
        let said = tools.validate(&present, version)?;
        ensure!(
            said.len() == 3 && said.iter().all(|line| line.starts_with("INFO")),
            "{said:#?}"
        );
    }
    Ok(())
}

#[test]
fn the_yaml_is_tidy() -> Result<()> {
    let Some(tools) = tools()? else { return Ok(()) };
    let rules = "{extends: relaxed, rules: {line-length: {max: 110}}}";
    let values = format!("{CHART}/values.yaml");
    let about = format!("{CHART}/Chart.yaml");
    for file in [values.as_str(), about.as_str(), EVERYTHING, MANIFESTS] {
        let text = fs::read_to_string(file)?;
        tools
            .piped(&["-m", "yamllint", "--strict", "-d", rules, "-"], &text)
            .with_context(|| file.to_owned())?;
    }
    Ok(())
}

/// Every value by its path, with its default.
fn leaves(path: &str, value: &Value, found: &mut BTreeMap<String, String>) {
    match value.as_object() {
        Some(object) if !object.is_empty() => {
            for (key, value) in object {
                let dot = if path.is_empty() { "" } else { "." };
                leaves(&format!("{path}{dot}{key}"), value, found);
            }
        }
        _ => {
            found.insert(path.to_owned(), value.to_string());
        }
    }
}

#[test]
fn the_document_has_every_value_with_its_default() -> Result<()> {
    let Some(tools) = tools()? else { return Ok(()) };
    let values = tools.documents(&fs::read_to_string(format!("{CHART}/values.yaml"))?)?;
    let mut expected = BTreeMap::new();
    leaves("", &values[0], &mut expected);
    let (_, rows) = KUBERNETES
        .split_once(VALUES)
        .context("no table of values")?;
    let lines = rows.lines().take_while(|line| line.starts_with('|'));
    let mut found = BTreeMap::new();
    for line in lines {
        let cells: Vec<_> = line.split('`').collect();
        ensure!(cells.len() >= 5, "{line}");
        found.insert(cells[1].to_owned(), cells[3].to_owned());
    }
    ensure!(
        found.len() == expected.len(),
        "of {} values",
        expected.len()
    );
    for (value, default) in &expected {
        let documented = found.get(value);
        ensure!(
            documented == Some(default),
            "{value} is {default}, not {documented:?}"
        );
    }
    Ok(())
}

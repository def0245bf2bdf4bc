//! Templates that Docker users write, and what comes out.

use serde_json::json;

use super::*;

fn run(template: &str) -> String {
    let data = json!({
        "Name": "overnet",
        "Id": "abcdef",
        "Internal": false,
        "IPAM": {"Config": [{"Subnet": "10.0.1.0/24"}, {"Subnet": "fd00::/64"}]},
        "Labels": {"a": "1", "b": "2"},
        "Ports": [80, 81],
        "Empty": [],
    });
    match Template::parse(template).and_then(|t| t.run(&data)) {
        Ok(text) => text,
        Err(err) => format!("error: {err}"),
    }
}

#[test]
fn fields_functions_and_control() {
    for (template, want) in [
        ("{{.Name}}", "overnet"),
        ("{{ .Name }} {{.Internal}}", "overnet false"),
        ("{{json .Ports}}", "[80,81]"),
        ("{{json .}}", &run("{{. | json}}")),
        ("{{.Ports}} {{.Labels}}", "[80 81] map[a:1 b:2]"),
        ("{{range .IPAM.Config}}{{.Subnet}} {{end}}", "10.0.1.0/24 fd00::/64 "),
        ("{{range $k, $v := .Labels}}{{$k}}={{$v}};{{end}}", "a=1;b=2;"),
        ("{{range .Empty}}x{{else}}none{{end}}", "none"),
        ("{{(index .IPAM.Config 1).Subnet}}", "fd00::/64"),
        (
            "{{.Name .Id}}",
            "error: template parsing error: unexpected `value`: only functions take arguments",
        ),
        ("{{with index .IPAM.Config 1}}{{.Subnet}}{{end}}", "fd00::/64"),
        ("{{index .Labels \"b\"}}", "2"),
        ("{{len .Ports}}", "2"),
        ("{{if .Internal}}in{{else if eq .Name \"overnet\"}}over{{else}}no{{end}}", "over"),
        ("{{if and .Name (not .Internal)}}yes{{end}}", "yes"),
        ("{{.Name | upper | printf \"%-9s|\"}}", "OVERNET  |"),
        ("{{join .Ports \",\"}}", "80,81"),
        ("{{println .Name}}", "overnet\n"),
        ("a {{- .Name -}} b", "aovernetb"),
        ("{{/* note */}}{{$.Name}}", "overnet"),
        ("{{$x := .Name}}{{range .Ports}}{{$x}}{{.}} {{end}}", "overnet80 overnet81 "),
        ("{{.Labels.none}}", "<no value>"),
        ("{{\"}}\"}}", "}}"),
    ] {
        assert_eq!(run(template), want, "{template}");
    }
}

#[test]
fn errors_are_one_line_that_helps() {
    for (template, want) in [
        ("{{.Name", "unclosed action"),
        ("{{.Nope}}", "no field `Nope` here (have: Name, Id"),
        ("{{foo .Name}}", "function `foo` not defined"),
        ("{{if .Name}}x", "missing {{end}}"),
        ("{{end}}", "unexpected `end`"),
        ("{{$y}}", "undefined variable `$y`"),
        ("{{range .Name}}{{end}}", "can't iterate over overnet"),
        ("{{.Name | }}", "missing value for command"),
    ] {
        let got = run(template);
        assert!(got.starts_with("error: ") && got.contains(want), "{template}: {got}");
        assert!(!got.contains('\n'), "{template}: {got}");
    }
}

proptest::proptest! {
    #[test]
    fn no_template_panics(text in "[{}. $a-z|()\"`\\\\:=,0-9-]{0,40}") {
        let _ = run(&text);
        let _ = run(&format!("{{{{{text}}}}}"));
    }
}

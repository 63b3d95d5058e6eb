package gateway

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"text/template"

	"go.yaml.in/yaml/v3"
)

// render gives what Helm gives for the chart, which uses little of it.
func render(t *testing.T, name string) string {
	t.Helper()
	var values map[string]any
	if err := yaml.Unmarshal([]byte(deployed(t, "kubernetes/chart/values.yaml")), &values); err != nil {
		t.Fatal(err)
	}
	functions := template.FuncMap{
		"quote": strconv.Quote,
		"nindent": func(n int, text string) string {
			pad := "\n" + strings.Repeat(" ", n)
			return pad + strings.ReplaceAll(text, "\n", pad)
		},
	}
	parsed, err := template.New("chart").Funcs(functions).Option("missingkey=error").Parse(deployed(t, "kubernetes/chart/templates/dragoman.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := parsed.Execute(&b, map[string]any{"Values": values, "Release": map[string]string{"Name": name}}); err != nil {
		t.Fatal(err)
	}
	var clean strings.Builder
	for line := range strings.Lines(b.String()) {
		clean.WriteString(strings.TrimRight(line, " \n") + "\n")
	}
	return clean.String()
}

// What Kubernetes would refuse is found by its own types only; here it is that the two ways
// to deploy are one, that every document is YAML without a key twice, and what the
// gateway needs to run as they say.
func TestTheManifestIsWhatTheChartGivesAndTheGatewayRunsAsItSays(t *testing.T) {
	rendered := "# What the chart gives with its own values.\n" + render(t, "dragoman")
	if os.Getenv("UPDATE") != "" {
		if err := os.WriteFile(filepath.Join(repository(t), "examples/deploy/kubernetes/dragoman.yaml"), []byte(rendered), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if deployed(t, "kubernetes/dragoman.yaml") != rendered {
		t.Errorf("examples/deploy/kubernetes/dragoman.yaml is not what the chart gives: UPDATE=1 go test ./cmd/gateway -run %s", t.Name())
	}
	kinds := map[string]map[string]any{}
	decoder := yaml.NewDecoder(strings.NewReader(rendered))
	for {
		var document map[string]any
		if err := decoder.Decode(&document); err != nil {
			if err.Error() == "EOF" {
				break
			}
			t.Fatal(err)
		}
		kind, _ := document["kind"].(string)
		kinds[kind] = document
	}
	for _, kind := range []string{"ConfigMap", "Deployment", "Service", "PodDisruptionBudget"} {
		if kinds[kind] == nil {
			t.Fatalf("there is no %s", kind)
		}
	}
	at := func(from any, keys ...any) any {
		for _, key := range keys {
			switch key := key.(type) {
			case string:
				m, _ := from.(map[string]any)
				from = m[key]
			case int:
				l, _ := from.([]any)
				if key >= len(l) {
					t.Fatalf("there is no %v", keys)
				}
				from = l[key]
			}
		}
		return from
	}
	pod := at(kinds["Deployment"], "spec", "template", "spec")
	container := at(pod, "containers", 0)
	for _, c := range []struct {
		got  any
		want any
	}{
		{at(pod, "securityContext", "runAsUser"), 65532},
		{at(pod, "securityContext", "runAsNonRoot"), true},
		{at(container, "securityContext", "readOnlyRootFilesystem"), true},
		{at(container, "readinessProbe", "httpGet", "path"), "/readyz"},
		{at(container, "livenessProbe", "httpGet", "path"), "/livez"},
		{at(kinds["Service"], "spec", "ports", 0, "targetPort"), at(container, "ports", 0, "name")},
	} {
		if c.got != c.want {
			t.Errorf("%v, want %v", c.got, c.want)
		}
	}
	file := write(t, at(kinds["ConfigMap"], "data", "pipeline.yaml").(string))
	if out, errs, status := commandHere(t, filepath.Dir(file), nil, "", "check", "--offline", "--config", file); status != 0 {
		t.Errorf("the ConfigMap: %d %s%s", status, out, errs)
	}
	if at(kinds["ConfigMap"], "data", "pipeline.yaml") != deployed(t, "container/pipeline.yaml") {
		t.Error("the ConfigMap holds another pipeline.yaml than the image")
	}
}

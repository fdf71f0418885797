{{- define "daas.labels" -}}
app.kubernetes.io/name: daas-hub
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{- define "daas.selector" -}}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{/* The hub's service account, and the user name by which the API server knows it. */}}
{{- define "daas.account" -}}{{ .Release.Name }}-hub{{- end }}
{{- define "daas.username" -}}system:serviceaccount:{{ .Release.Namespace }}:{{ include "daas.account" . }}{{- end }}

{{/* Policies are objects of the whole cluster: their names say whose they are. */}}
{{- define "daas.clusterName" -}}{{ .root.Release.Namespace }}-{{ .root.Release.Name }}-{{ .what }}{{- end }}

{{- define "daas.secret" -}}{{ .Values.hub.existingSecret | default (printf "%s-hub" .Release.Name) }}{{- end }}

{{/* Helm reads numbers of a values file as floating-point ones: 2147483647 would become 2.147483647e+09. */}}
{{- define "daas.int" -}}{{ printf "%d" (int64 .) }}{{- end }}

{{/* A list of numbers as CEL writes one; "[]" has no type of its own there. */}}
{{- define "daas.ints" -}}
{{- $all := list }}{{ range . }}{{ $all = append $all (include "daas.int" .) }}{{ end -}}
[{{ join ", " $all }}]
{{- end }}

{{- define "daas.image" -}}
{{ .name }}:{{ .tag }}
{{- end }}

{{/* One rule of a NetworkPolicy. Takes (dict "direction" "to" or "from" "peers" … "ports" … "protocols" …). */}}
{{- define "usa.traffic" -}}
- ports:
  {{- range $port := .ports }}
  {{- range $protocol := default (list "TCP") $.protocols }}
    - protocol: {{ $protocol }}
      port: {{ $port }}
  {{- end }}
  {{- end }}
  {{- with .peers }}
  {{ $.direction }}:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end -}}

{{/* What every process talks to: names and Postgres. */}}
{{- define "usa.commonEgress" -}}
{{- $egress := .Values.networkPolicy.egress -}}
{{ include "usa.traffic" (dict "direction" "to" "peers" $egress.dns.to "ports" $egress.dns.ports "protocols" (list "UDP" "TCP")) }}
{{ include "usa.traffic" (dict "direction" "to" "peers" $egress.postgres.to "ports" $egress.postgres.ports) }}
{{- end -}}

{{/* What api and workers talk to besides. */}}
{{- define "usa.serviceEgress" -}}
{{- $egress := .Values.networkPolicy.egress -}}
{{ include "usa.commonEgress" . }}
{{ include "usa.traffic" (dict "direction" "to" "peers" $egress.redis.to "ports" $egress.redis.ports) }}
{{- with .Values.tracing.endpoint }}
{{ include "usa.traffic" (dict "direction" "to" "peers" $egress.otlp.to "ports" (list (include "usa.portOf" .))) }}
{{- end }}
{{- end -}}

{{/* The port of an address, also where it goes without saying. */}}
{{- define "usa.portOf" -}}
{{- $parts := urlParse . -}}
{{- default (eq $parts.scheme "https" | ternary "443" "80") (regexFind ":[0-9]+$" $parts.host | trimPrefix ":") -}}
{{- end -}}

{{- define "streamctl.name" -}}
{{ .Release.Name | trunc 40 | trimSuffix "-" }}
{{- end }}

{{- define "streamctl.labels" -}}
{{ include "streamctl.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{- define "streamctl.selector" -}}
app.kubernetes.io/name: streamctl
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "streamctl.serviceAccount" -}}
{{ .Values.serviceAccount.name | default (include "streamctl.name" .) }}
{{- end }}

{{/* Without quotes YAML takes off for false. */}}
{{- define "streamctl.autoscaling" -}}
{{- $mode := .Values.autoscaling.mode | toString }}
{{- if eq $mode "false" }}{{ $mode = "off" }}{{ end }}
{{- if not (has $mode (list "off" "hpa" "keda")) }}
{{- fail (printf "autoscaling.mode is %q\n  hint: off, hpa or keda" $mode) }}
{{- end }}
{{- if and (eq $mode "hpa") (lt (int .Values.autoscaling.minReplicas) 1) }}
{{- fail "autoscaling.minReplicas is 0\n  hint: a HorizontalPodAutoscaler has at least 1; mode keda can do with 0" }}
{{- end }}
{{- $mode }}
{{- end }}

{{/* Nothing is rendered that would not start. */}}
{{- define "streamctl.check" -}}
{{- $s := .Values.security }}
{{- if not $s.insecure }}
{{- if not $s.tls.secret }}
{{- fail "security.tls.secret names no Secret with tls.crt, tls.key and ca.crt, so what is said between pods would not be encrypted. Name one, or say security.insecure=true in a network that you trust (docs/security.md)" }}
{{- end }}
{{- if not (or $s.accessSecret $s.tls.mutual) }}
{{- fail "nobody would be asked who they are: name security.accessSecret (with the key access.toml), or say security.tls.mutual=true" }}
{{- end }}
{{- if and $s.accessSecret (not $s.joinTokenSecret) (not $s.tls.mutual) }}
{{- fail "workers would not be let in: name security.joinTokenSecret (with the key `token`, of the role worker), or say security.tls.mutual=true and give their certificate's name the role worker" }}
{{- end }}
{{- if not .Values.etcd.tlsSecret }}
{{- fail "etcd.tlsSecret names no Secret with ca.crt, so what is said to etcd would not be encrypted. Name one, or say security.insecure=true in a network that you trust" }}
{{- end }}
{{- end }}
{{- end }}

{{- define "streamctl.protection" -}}
{{- $s := .Values.security }}
{{- if $s.insecure }}
- --insecure
{{- end }}
{{- if $s.tls.secret }}
- --tls-cert=/etc/streamctl/tls/tls.crt
- --tls-key=/etc/streamctl/tls/tls.key
- --tls-ca=/etc/streamctl/tls/ca.crt
- --tls-name={{ $s.tls.name }}
{{- if $s.tls.mutual }}
- --tls-client-ca=/etc/streamctl/tls/ca.crt
{{- end }}
{{- end }}
{{- end }}

{{- define "streamctl.volume" -}}
- name: {{ .name }}
  secret: { secretName: {{ .secret }}, defaultMode: 0440 }
{{- end }}

{{- define "streamctl.mount" -}}
- { name: {{ .name }}, mountPath: /etc/streamctl/{{ .name }}, readOnly: true }
{{- end }}

{{/* Where files of a component come from: a list of name and secret. */}}
{{- define "streamctl.secrets" -}}
{{- $s := .root.Values.security }}
{{- $all := list }}
{{- if $s.tls.secret }}{{ $all = append $all (dict "name" "tls" "secret" $s.tls.secret) }}{{ end }}
{{- if eq .component "controller" }}
{{- if $s.accessSecret }}{{ $all = append $all (dict "name" "access" "secret" $s.accessSecret) }}{{ end }}
{{- with .root.Values.etcd.tlsSecret }}{{ $all = append $all (dict "name" "etcd-tls" "secret" .) }}{{ end }}
{{- with .root.Values.etcd.loginSecret }}{{ $all = append $all (dict "name" "etcd-login" "secret" .) }}{{ end }}
{{- else if $s.joinTokenSecret }}{{ $all = append $all (dict "name" "join-token" "secret" $s.joinTokenSecret) }}
{{- end }}
{{- dict "all" $all | toJson }}
{{- end }}

{{- define "streamctl.pod" -}}
serviceAccountName: {{ include "streamctl.serviceAccount" . }}
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  runAsGroup: 10001
  fsGroup: 10001
  seccompProfile: { type: RuntimeDefault }
{{- with .Values.nodeSelector }}
nodeSelector: {{ toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations: {{ toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "streamctl.container" -}}
image: "{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}"
imagePullPolicy: {{ .Values.image.pullPolicy }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: { drop: [ALL] }
livenessProbe:
  httpGet: { path: /healthz, port: health }
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 6
readinessProbe:
  httpGet: { path: /readyz, port: health }
  periodSeconds: 5
  timeoutSeconds: 5
{{- end }}

{{- define "streamctl.env" -}}
- name: POD_NAME
  valueFrom: { fieldRef: { fieldPath: metadata.name } }
- name: POD_IP
  valueFrom: { fieldRef: { fieldPath: status.podIP } }
{{- range $name, $value := .Values.env }}
- name: {{ $name }}
  value: {{ $value | quote }}
{{- end }}
{{- end }}

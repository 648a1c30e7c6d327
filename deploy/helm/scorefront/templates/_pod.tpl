{{/* The selector of the Deployments, which cannot be changed once it is there. */}}
{{- define "scorefront.deployed" -}}
app.kubernetes.io/name: scorefront
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{/* Every other selector: a label that no pod of an endpoint can carry. */}}
{{- define "scorefront.selector" -}}
scorefront.io/component: {{ .component }}
{{- end }}

{{- define "scorefront.labels" -}}
{{ include "scorefront.deployed" . }}
{{ include "scorefront.selector" . }}
{{- end }}

{{- define "scorefront.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{/* Pod settings shared by both processes; argument: {component, root}. */}}
{{- define "scorefront.pod" -}}
serviceAccountName: scorefront-{{ .component }}
# Service links of a Service named scorefront would be variables named SCOREFRONT_..., the names of settings.
enableServiceLinks: false
{{- with .root.Values.image.pullSecrets }}
imagePullSecrets: {{ toYaml . | nindent 2 }}
{{- end }}
{{- if .root.Values.availability.enabled }}
priorityClassName: scorefront
affinity:
  podAntiAffinity:
    preferredDuringSchedulingIgnoredDuringExecution:
    - weight: 100
      podAffinityTerm:
        topologyKey: kubernetes.io/hostname
        labelSelector:
          matchLabels: {{- include "scorefront.selector" . | nindent 12 }}
topologySpreadConstraints:
- maxSkew: 1
  topologyKey: topology.kubernetes.io/zone
  whenUnsatisfiable: ScheduleAnyway
  labelSelector:
    matchLabels: {{- include "scorefront.selector" . | nindent 6 }}
{{- end }}
tolerations:
- {key: node.kubernetes.io/unreachable, operator: Exists, effect: NoExecute, tolerationSeconds: 30}
- {key: node.kubernetes.io/not-ready, operator: Exists, effect: NoExecute, tolerationSeconds: 30}
securityContext:
  runAsNonRoot: true
{{- if not .root.Values.arbitraryUser }}
  runAsUser: 10001
  runAsGroup: 10001
  fsGroup: 10001
{{- end }}
  seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "scorefront.env" -}}
envFrom:
- configMapRef: {name: scorefront-settings}
env:
- name: POD_NAME
  valueFrom: {fieldRef: {fieldPath: metadata.name}}
- name: POD_UID
  valueFrom: {fieldRef: {fieldPath: metadata.uid}}
- name: POD_IP
  valueFrom: {fieldRef: {fieldPath: status.podIP}}
- name: SCOREFRONT_NAMESPACE
  valueFrom: {fieldRef: {fieldPath: metadata.namespace}}
{{- end }}

{{- define "scorefront.confined" -}}
allowPrivilegeEscalation: false
capabilities: {drop: [ALL]}
readOnlyRootFilesystem: true
{{- end }}

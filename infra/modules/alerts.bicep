metadata name = 'Alerts'
metadata description = 'Alerts: scheduled query rules, whose queries are in alerts/, and the action group that they notify. For the runbooks, see docs/alarms.md.'

// Parameters

@description('Required. Region for the rules.')
param location string

@description('Required. Tags for all resources.')
param tags object

@description('Required. Resource ID of the Log Analytics workspace that receives the telemetry of the app.')
param logAnalyticsWorkspaceId string

@description('Required. Name of the function app. Events from other apps in the workspace are excluded.')
param functionAppName string

@description('Required. Name of the action group.')
@maxLength(260)
param actionGroupName string

@description('Optional. Email addresses that are notified when an alert fires or is resolved. Default: none; alerts are visible only in the portal.')
param actionGroupEmails array = []

@description('Optional. Whether the rules are enabled. Default: true.')
param enabled bool = true

@description('Optional. Datasets that the silence rule monitors; these are the datasets that cycles request. Default: all four.')
param datasets array = ['billed_usage', 'unbilled_usage', 'billed_reconciliation', 'unbilled_reconciliation']

@description('Optional. Number of hours without a successful run of a dataset after which the alert fires, 2 to 47. Default: 30, for a daily schedule with a margin of six hours.')
@minValue(2)
@maxValue(47)
param silenceHours int = 30

@description('Optional. Number of hours within which the schedule and the daily preflight must have run, 2 to 47. Default: 26, for a daily schedule with a margin of two hours.')
@minValue(2)
@maxValue(47)
param timerHours int = 26

@description('Optional. Number of minutes within which a requested run or cycle must have started, 5 to 720. Default: 15.')
@minValue(5)
@maxValue(720)
param pendingMinutes int = 15

@description('Optional. Number of hours before the deadline of an active run at which the alert fires, 1 to 24. Default: 2.')
@minValue(1)
@maxValue(24)
param deadlineHours int = 2

@description('Optional. Maximum percentage of the planned copies of a run that can fail before the alert fires, 1 to 100. Default: 5.')
@minValue(1)
@maxValue(100)
param failedPercent int = 5

@description('Optional. Minimum number of planned copies of a run for which this alert can fire, 1 to 100000. Default: 20.')
@minValue(1)
@maxValue(100000)
param minPlanned int = 20

@description('Optional. Percentage of the trailing mean, 0 to 99. An alert fires if the rows or bytes of a version are below it. Default: 50.')
@minValue(0)
@maxValue(99)
param lowPercent int = 50

@description('Optional. Percentage of the trailing mean, 101 to 10000. An alert fires if the rows or bytes of a version are above it. Default: 300; a month that grows evenly stays below 200.')
@minValue(101)
@maxValue(10000)
param highPercent int = 300

@description('Optional. Minimum number of versions in a trailing mean, 1 to 7. Default: 3.')
@minValue(1)
@maxValue(7)
param minCompared int = 3

// Variables

var datasetNames = join(datasets, ',')
var rules = loadJsonContent('../alerts/rules.json')

// The first lines of a query define its thresholds, so that it can run unchanged in the portal.
var queries = {
  'run-failed': loadTextContent('../alerts/run-failed.kql')
  silence: replace(replace(loadTextContent('../alerts/silence.kql'), 'let silence_hours = 30;', 'let silence_hours = ${silenceHours};'), 'let datasets = \'billed_usage,unbilled_usage,billed_reconciliation,unbilled_reconciliation\';', 'let datasets = \'${datasetNames}\';')
  pending: replace(loadTextContent('../alerts/pending.kql'), 'let pending_minutes = 15;', 'let pending_minutes = ${pendingMinutes};')
  'deadline-near': replace(loadTextContent('../alerts/deadline-near.kql'), 'let deadline_hours = 2;', 'let deadline_hours = ${deadlineHours};')
  'copy-failures': replace(replace(loadTextContent('../alerts/copy-failures.kql'), 'let failed_percent = 5;', 'let failed_percent = ${failedPercent};'), 'let min_planned = 20;', 'let min_planned = ${minPlanned};')
  'unusual-size': replace(replace(replace(loadTextContent('../alerts/unusual-size.kql'), 'let low_percent = 50;', 'let low_percent = ${lowPercent};'), 'let high_percent = 300;', 'let high_percent = ${highPercent};'), 'let min_compared = 3;', 'let min_compared = ${minCompared};')
  'tie-out': loadTextContent('../alerts/tie-out.kql')
  'preflight-failed': loadTextContent('../alerts/preflight-failed.kql')
  'timer-missed': replace(loadTextContent('../alerts/timer-missed.kql'), 'let timer_hours = 26;', 'let timer_hours = ${timerHours};')
}

// Resources

resource actionGroup 'Microsoft.Insights/actionGroups@2023-01-01' = {
  name: actionGroupName
  location: 'global'
  tags: tags
  properties: {
    groupShortName: 'billing'
    enabled: true
    emailReceivers: [for (address, index) in actionGroupEmails: {
      name: 'mail-${index}'
      emailAddress: address
      useCommonAlertSchema: true
    }]
  }
}

// A rule evaluates at most two days of logs. It resolves automatically, so one incident sends one
// notification.
resource alarms 'Microsoft.Insights/scheduledQueryRules@2023-12-01' = [for rule in rules: {
  name: '${functionAppName}-${rule.name}'
  location: location
  tags: tags
  kind: 'LogAlert'
  properties: {
    displayName: rule.title
    description: '${rule.description} Runbook: docs/alarms.md#${rule.name}'
    enabled: enabled
    severity: rule.severity
    scopes: [logAnalyticsWorkspaceId]
    evaluationFrequency: rule.frequency
    windowSize: 'P1D'
    overrideQueryTimeRange: 'P2D'
    autoMitigate: true
    criteria: {
      allOf: [
        {
          query: replace(queries[rule.name], 'let role = \'\';', 'let role = \'${functionAppName}\';')
          timeAggregation: 'Count'
          operator: 'GreaterThan'
          threshold: 0
          dimensions: map(rule.dimensions, column => {
            name: column
            operator: 'Include'
            values: ['*']
          })
          failingPeriods: {
            numberOfEvaluationPeriods: 1
            minFailingPeriodsToAlert: 1
          }
        }
      ]
    }
    actions: {
      actionGroups: [actionGroup.id]
    }
  }
}]

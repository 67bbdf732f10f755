metadata name = 'Alerts'
metadata description = 'Alarms as scheduled query rules, one query each in alerts/, and one action group that all of them tell. What each means and what to do: docs/alarms.md.'

// Parameters

@description('Required. Region of the rules.')
param location string

@description('Required. Tags of all resources.')
param tags object

@description('Required. Resource ID of the Log Analytics workspace that takes in the telemetry of the app.')
param logAnalyticsWorkspaceId string

@description('Required. Name of the function app: events of another app in the same workspace are left out.')
param functionAppName string

@description('Required. Name of the action group.')
@maxLength(260)
param actionGroupName string

@description('Optional. Addresses that get a mail of each alarm, its end included. Default: none, alarms are seen in the portal only.')
param actionGroupEmails array = []

@description('Optional. Whether the rules are at work. Default: true.')
param enabled bool = true

@description('Optional. Datasets that must not be silent: those that cycles ask for. Default: all four.')
param datasets array = ['billed_usage', 'unbilled_usage', 'billed_reconciliation', 'unbilled_reconciliation']

@description('Optional. Hours without anything good of a dataset that are silence, 2 to 47. Default: 30, a daily schedule and six hours of grace.')
@minValue(2)
@maxValue(47)
param silenceHours int = 30

@description('Optional. Hours within which the schedule and the doctor must have fired, 2 to 47. Default: 26, a daily schedule and two hours of grace.')
@minValue(2)
@maxValue(47)
param timerHours int = 26

@description('Optional. Minutes within which what was asked for must have begun, 5 to 720. Default: 15.')
@minValue(5)
@maxValue(720)
param pendingMinutes int = 15

@description('Optional. Hours before its deadline at which a run that has not ended is told of, 1 to 24. Default: 2.')
@minValue(1)
@maxValue(24)
param deadlineHours int = 2

@description('Optional. Percent of the planned copies of a run that may fail, 1 to 100. Default: 5.')
@minValue(1)
@maxValue(100)
param failedPercent int = 5

@description('Optional. Planned copies below which a run is too small for that, 1 to 100000. Default: 20.')
@minValue(1)
@maxValue(100000)
param plannedLeast int = 20

@description('Optional. Percent of the trailing mean below which rows or bytes are told of, 0 to 99. Default: 50.')
@minValue(0)
@maxValue(99)
param lowPercent int = 50

@description('Optional. Percent of the trailing mean above which rows or bytes are told of, 101 to 10000. Default: 300; a month that grows evenly stays below 200.')
@minValue(101)
@maxValue(10000)
param highPercent int = 300

@description('Optional. Versions that a mean must be of before it counts, 1 to 7. Default: 3.')
@minValue(1)
@maxValue(7)
param comparedLeast int = 3

// Variables

var datasetNames = join(datasets, ',')
var rules = loadJsonContent('../alerts/rules.json')

// The first lines of a query are its thresholds with their defaults, so that it can be tried in the portal as it is.
var queries = {
  'run-failed': loadTextContent('../alerts/run-failed.kql')
  silence: replace(replace(loadTextContent('../alerts/silence.kql'), 'let silence_hours = 30;', 'let silence_hours = ${silenceHours};'), 'let datasets = \'billed_usage,unbilled_usage,billed_reconciliation,unbilled_reconciliation\';', 'let datasets = \'${datasetNames}\';')
  pending: replace(loadTextContent('../alerts/pending.kql'), 'let pending_minutes = 15;', 'let pending_minutes = ${pendingMinutes};')
  'deadline-near': replace(loadTextContent('../alerts/deadline-near.kql'), 'let deadline_hours = 2;', 'let deadline_hours = ${deadlineHours};')
  'copy-failures': replace(replace(loadTextContent('../alerts/copy-failures.kql'), 'let failed_percent = 5;', 'let failed_percent = ${failedPercent};'), 'let planned_least = 20;', 'let planned_least = ${plannedLeast};')
  'size-off': replace(replace(replace(loadTextContent('../alerts/size-off.kql'), 'let low_percent = 50;', 'let low_percent = ${lowPercent};'), 'let high_percent = 300;', 'let high_percent = ${highPercent};'), 'let compared_least = 3;', 'let compared_least = ${comparedLeast};')
  'doctor-red': loadTextContent('../alerts/doctor-red.kql')
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

// Two days is the most that a rule can look back, whatever its query says. A rule resolves itself, so one incident is one mail.
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
